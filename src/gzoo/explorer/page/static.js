// A site without a server: answers the page's questions from files beside it, in the words of the server.
// The grammar and the meaning of missing values are those of gzoo.dataset.expression and gzoo.dataset.names.

const N_BINS = 25;
const MAX_ROWS = 400;
const SIGNS = { "==": "=", "<>": "!=" };
const WORDS = new Set(["and", "or", "not", "in", "contains", "is"]);
const NUMBER = /[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\p{L}\p{N}_.])/uy;
const WORD = /[\p{L}\p{N}_][\p{L}\p{N}_.-]*/uy;
const SYMBOL = /<=|>=|==|!=|<>|[<>=(),]/y;
const PLAIN = /^[\p{L}\p{N}_][\p{L}\p{N}_.-]*$/u;
const STARTS_AS_NUMBER = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\p{L}\p{N}_.])/u;

class Wrong extends Error {
  constructor(message, { expected = "", hint = "", position = null, status = 400 } = {}) {
    super(message);
    this.body = { refused: status, message, expected, hint, ...(position === null ? {} : { position }) };
  }
}

const fetched = new Map();
function file(name) {
  if (!fetched.has(name)) fetched.set(name, fetch(`data/${name}.json`).then((one) => {
    if (!one.ok) throw new Wrong(`'${name}' is missing from this site.`, { status: 404 });
    return one.json();
  }));
  return fetched.get(name);
}

// ----------------------------------------------------------------------------------------------------
// Expressions

function tokens(text) {
  const found = [];
  let at = 0;
  const at_ = (pattern) => {
    pattern.lastIndex = at;
    return pattern.exec(text)?.[0];
  };
  while (at < text.length) {
    const mark = text[at];
    if (/\s/.test(mark)) { at += 1; continue; }
    let token;
    if ("'\"`".includes(mark)) {
      let end = at + 1;
      while (end < text.length && (text[end] !== mark || text[end + 1] === mark)) end += text[end] === mark ? 2 : 1;
      if (end >= text.length) throw new Wrong(`The quotation mark ${mark} at character ${at + 1} is not closed.`, { position: at });
      token = { kind: mark === "'" ? "text" : "name", text: text.slice(at + 1, end).replaceAll(mark + mark, mark), length: end + 1 - at };
    } else if ((token = at_(NUMBER))) token = { kind: "number", text: token };
    else if ((token = at_(WORD))) token = { kind: WORDS.has(token.toLowerCase()) ? "keyword" : "name", text: token };
    else if ((token = at_(SYMBOL))) token = { kind: "symbol", text: token };
    else throw new Wrong(`Unexpected character '${mark}' at character ${at + 1}.`, { expected: "names, numbers, 'text', comparisons, and, or, not, and parentheses.", position: at });
    found.push({ ...token, position: at });
    at += token.length ?? token.text.length;
  }
  found.push({ kind: "end", text: "the end of the expression", position: text.length });
  return found;
}

function parse(text) {
  const rest = tokens(text);
  let i = 0;
  let depth = 0;
  const next = () => rest[i];
  const pop = () => rest[i++];
  const take = (word) => ["symbol", "keyword"].includes(next().kind) && next().text.toLowerCase() === word && Boolean(pop());
  const unexpected = (expected) => new Wrong(`Unexpected '${next().text}' at character ${next().position + 1}.`, { expected, position: next().position });
  const require_ = (word) => { if (!take(word)) throw unexpected(`'${word}'.`); };
  const deeper = (part) => {
    if ((depth += 1) > 30) throw new Wrong("The expression has more than 30 levels.", { position: next().position });
    const found = part();
    depth -= 1;
    return found;
  };
  const several = (kind, word, part) => {
    const parts = [part()];
    while (take(word)) parts.push(part());
    return parts.length > 1 ? { kind, parts } : parts[0];
  };
  const any = () => several("or", "or", all);
  const all = () => several("and", "and", not);
  const not = () => {
    if (take("not")) return { kind: "not", part: deeper(not) };
    if (take("(")) {
      const found = deeper(any);
      require_(")");
      return found;
    }
    return test();
  };
  const value = (expected) => {
    const { kind, text: own, position } = next();
    if (!["name", "number", "text"].includes(kind)) throw unexpected(expected);
    pop();
    if (kind !== "number") return { kind, text: own, position };
    if (!Number.isFinite(Number(own))) throw new Wrong(`The number ${own} at character ${position + 1} is too large.`, { position });
    return { kind, value: Number(own), isDecimal: !/^[+-]?\d+$/.test(own), position };
  };
  const test = () => {
    let left = value("a test, such as bar-gz2.yes > 0.5.");
    if (take("in")) {
      require_("(");
      const choices = [];
      do {
        if (!["number", "text"].includes(next().kind)) throw unexpected("a number or 'text'.");
        choices.push(value(""));
      } while (take(","));
      require_(")");
      return { kind: "in", left, choices };
    }
    if (take("contains")) {
      if (next().kind !== "text") throw unexpected("'text' between single quotation marks.");
      return { kind: "contains", left, part: value("") };
    }
    if (take("is")) {
      const negated = take("not");
      if (next().kind !== "name" || next().text.toLowerCase() !== "missing") throw unexpected("missing.");
      pop();
      if (left.kind !== "name") throw new Wrong(`Not a name at character ${left.position + 1}.`, { expected: "a name before 'is'.", position: left.position });
      return { kind: "missing", left, negated };
    }
    const chain = [];
    while (next().kind === "symbol" && !"(),".includes(next().text)) {
      const sign = pop().text;
      const right = value("a name, a number, or 'text' between single quotation marks.");
      chain.push({ kind: "compare", left, sign: SIGNS[sign] ?? sign, right });
      left = right;
    }
    if (!chain.length) throw unexpected("a comparison: <, >, <=, >=, =, !=, in, contains, or is missing.");
    return chain.length > 1 ? { kind: "and", parts: chain } : chain[0];
  };
  const found = any();
  if (next().kind !== "end") throw unexpected("and, or, or the end of the expression.");
  return found;
}

const rounded = (x, digits = 4) => Number(x.toFixed(digits));
const quoted = (name) => (PLAIN.test(name) && !STARTS_AS_NUMBER.test(name) && !WORDS.has(name.toLowerCase()) ? name : `\`${name.replaceAll("`", "``")}\``);

function written(node) {
  const inside = (one) => (["and", "or"].includes(one.kind) ? `(${written(one)})` : written(one));
  const word = (one) => (one.kind === "name" ? quoted(one.text) : one.kind === "text" ? `'${one.text.replaceAll("'", "''")}'` : one.isDecimal && Number.isInteger(one.value) ? one.value.toFixed(1) : String(one.value));
  switch (node.kind) {
    case "and": case "or": return node.parts.map(inside).join(` ${node.kind} `);
    case "not": return `not ${inside(node.part)}`;
    case "compare": return `${word(node.left)} ${node.sign} ${word(node.right)}`;
    case "in": return `${word(node.left)} in (${node.choices.map(word).join(", ")})`;
    case "contains": return `${word(node.left)} contains ${word(node.part)}`;
    default: return `${word(node.left)} is ${node.negated ? "not " : ""}missing`;
  }
}

const flat = (node) => (node.kind === "and" ? node.parts.flatMap(flat) : [node]);
const each = (node) => (node.parts ?? (node.part && node.kind === "not" ? [node.part] : null))?.flatMap(each) ?? [node];
const operands = (test) => [test.left, test.right, ...(test.choices ?? []), test.kind === "contains" ? test.part : null].filter(Boolean);

// ----------------------------------------------------------------------------------------------------
// The site

class Site {
  constructor(data) {
    Object.assign(this, data);
    this.n = this.about.n;
    this.place = new Map();
    this.names.forEach((one, i) => one.spellings.forEach((spelling) => this.place.set(spelling, i)));
    for (const one of this.names) if (one.isFloat32) one.values = one.values.map((x) => (x === null ? null : Math.fround(x)));
    this.question = new Map(this.about.questions.flatMap((one) => one.answers.map((answer) => [answer.index, one])));
    this.masks = new Map();
  }

  find({ text, position }) {
    const found = this.names[this.place.get(text)];
    if (!found) throw new Wrong(`Unknown name '${text.slice(0, 80)}' at character ${position + 1}.`, { position, hint: "Names appear while you type." });
    return found;
  }

  measure(text) {
    return this.find({ text, position: 0 });
  }

  bind(node) {
    for (const test of each(node)) {
      const own = operands(test);
      if (test.kind === "missing") { this.find(test.left); continue; }
      const isText = (one) => (one.kind === "name" ? this.find(one).kind === "text" : one.kind === "text");
      const [first, ...others] = own;
      for (const one of own) if (one.kind === "name" && this.find(one).kind === "other") throw new Wrong(`'${one.text}' contains neither numbers nor text.`, { position: one.position });
      for (const one of others) {
        if (isText(first) !== isText(one) || (test.kind === "contains" && !isText(first))) {
          throw new Wrong(`Text is compared with a number (character ${one.position + 1}).`, { expected: "two numbers or two texts.", hint: "Put text between 'single quotation marks'.", position: one.position });
        }
      }
    }
    return node;
  }

  // True, false, or null where a missing value decides; one for each row.
  met(node) {
    const rows = Array.from({ length: this.n }, (_, i) => i);
    if (node.kind === "not") return this.met(node.part).map((one) => (one === null ? null : !one));
    if (node.kind === "and" || node.kind === "or") {
      const decides = node.kind === "or";
      const parts = node.parts.map((one) => this.met(one));
      return rows.map((i) => (parts.some((one) => one[i] === decides) ? decides : parts.some((one) => one[i] === null) ? null : !decides));
    }
    const named = operands(node).filter((one) => one.kind === "name").map((one) => this.find(one));
    const isFloat32 = named.length > 0 && named.every((one) => one.isFloat32);
    const literal = (one) => (one.kind === "text" ? one.text : isFloat32 && (one.isDecimal || node.kind === "in") ? Math.fround(one.value) : one.value);
    const values = (one) => {
      if (one.kind === "name") { const own = this.find(one).values; return (i) => own[i]; }
      const own = literal(one);
      return () => own;
    };
    const left = values(node.left);
    if (node.kind === "missing") return rows.map((i) => (left(i) === null) !== node.negated);
    if (node.kind === "contains") return rows.map((i) => (left(i) === null ? null : left(i).includes(node.part.text)));
    if (node.kind === "in") {
      const choices = new Set(node.choices.map(literal));
      return rows.map((i) => (left(i) === null ? null : choices.has(left(i))));
    }
    const right = values(node.right);
    const compare = { "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "=": (a, b) => a === b, "!=": (a, b) => a !== b }[node.sign];
    return rows.map((i) => { const [a, b] = [left(i), right(i)]; return a === null || b === null ? null : compare(a, b); });
  }

  parts(text) {
    return text.trim() ? flat(this.bind(parse(text))) : [];
  }

  condition(part) {
    const names = [...new Set(each(part).flatMap((test) => operands(test)).filter((one) => one.kind === "name").map((one) => this.find(one).name))];
    const text = written(part);
    return { text: part.kind === "or" ? `(${text})` : text, names, limits: this.limits(part) };
  }

  limits(part) {
    if (part.kind !== "compare" || part.sign === "!=") return null;
    let { left, right, sign } = part;
    if (left.kind !== "name") {
      [left, right] = [right, left];
      sign = sign.replace(/[<>]/, (one) => (one === "<" ? ">" : "<"));
    }
    if (left.kind !== "name" || right.kind !== "number") return null;
    return { name: this.find(left).name, low: ">=".includes(sign[0]) ? right.value : null, high: "<=".includes(sign[0]) ? right.value : null };
  }

  mask(part) {
    const key = written(part);
    if (!this.masks.has(key)) this.masks.set(key, this.met(part));
    return this.masks.get(key);
  }

  rows(query, without = "") {
    const masks = this.parts(query.get("q") ?? "").filter((part) => !without || String(this.condition(part).names) !== without).map((part) => this.mask(part));
    const switches = [["split", this.about.splits, this.split], ["campaign", this.about.campaigns, this.campaign]];
    for (const [name, known, codes] of switches) {
      const wanted = (query.get(name) ?? "").split(",").filter(Boolean).map((one) => known.indexOf(one));
      if (wanted.length && without !== name) masks.push(codes.map((one) => wanted.includes(one)));
    }
    const found = [];
    for (let i = 0; i < this.n; i++) if (masks.every((one) => one[i] === true)) found.push(i);
    return found;
  }

  order(query, rows) {
    const sort = query.get("sort") ?? "";
    if (!sort) return rows;
    const { values, answer } = this.measure(sort.replace(/^-/, ""));
    const sign = sort.startsWith("-") ? -1 : 1;
    const votes = (i) => (answer < 0 ? 0 : this.totals[this.question.get(answer).index][i]);
    return [...rows].sort((a, b) => {
      const [x, y] = [values[a], values[b]];
      if (x === null || y === null) return (x === null) - (y === null) || votes(b) - votes(a) || a - b;
      return (x === y ? 0 : x < y ? -sign : sign) || votes(b) - votes(a) || a - b;
    });
  }

  page(query, rows) {
    const from = Number(query.get("from") ?? 0);
    return this.tiles(this.order(query, rows).slice(from, from + Math.min(Number(query.get("n") ?? 60), MAX_ROWS)), query);
  }

  tiles(rows, query) {
    const name = query.get("show") || (query.get("sort") ?? "").replace(/^-/, "");
    const measure = name ? this.measure(name) : null;
    const roots = this.about.questions.filter((one) => !one.parents.length);
    return rows.map((row) => {
      const tile = { row, id: this.ids[row] };
      let shown = measure ? measure.answer : -1;
      if (!measure && roots.length) {
        const root = roots.reduce((best, one) => (this.totals[one.index][row] > this.totals[best.index][row] ? one : best));
        const answer = root.answers.reduce((best, one) => (this.counts[one.index][row] > this.counts[best.index][row] ? one : best));
        shown = answer.index;
        tile.label = answer.label;
      }
      if (shown >= 0) {
        tile.k = this.counts[shown][row];
        tile.n = this.totals[this.question.get(shown).index][row];
        const model = measure && this.place.get(`${this.question.get(shown).name}.${this.question.get(shown).answers.find((one) => one.index === shown).answer}.model`);
        const value = model === undefined || model === null ? null : this.names[model].values[row];
        if (value !== null) tile.model = rounded(value);
      } else if (measure) {
        const value = measure.values[row];
        tile.value = typeof value !== "number" ? value : name === "disagreement" ? rounded(rounded(value), 1) : rounded(value);
        if (name === "disagreement") tile.unit = "σ";
      }
      return tile;
    });
  }

  histogram(name, query, rows) {
    const { values, low, high } = this.measure(name);
    if (low === undefined) throw new Wrong(`'${name}' does not contain numbers.`, { expected: "a measure with numbers." });
    const counted = (of) => {
      const bins = new Array(N_BINS).fill(0);
      let missing = 0;
      for (const i of of) {
        if (values[i] === null) missing += 1;
        else bins[Math.min(Math.max(Math.floor((values[i] - low) * (N_BINS / (high - low))), 0), N_BINS - 1)] += 1;
      }
      return [bins, missing];
    };
    const everything = Array.from({ length: this.n }, (_, i) => i);
    const [selected, n_missing] = counted(rows);
    return { name, low, high, all: counted(everything)[0], selected, n_missing, spelling: this.measure(name).spelling };
  }

  n_by(query, rows, name, known, codes) {
    const own = query.get(name) ? this.rows(query, name) : rows;
    return Object.fromEntries(known.map((one, i) => [one, own.filter((row) => codes[row] === i).length]));
  }

  view(query) {
    const rows = this.rows(query);
    const conditions = this.parts(query.get("q") ?? "").map((part) => this.condition(part));
    const sums = (columns) => columns.map((one) => rows.reduce((sum, i) => sum + one[i], 0));
    const asked = [...conditions.filter((one) => one.limits).map((one) => one.limits.name), ...(query.get("cards") ?? "").split(",").filter(Boolean).map((one) => this.measure(one.replace(/^`|`$/g, "")).name)];
    const isOwn = (name) => conditions.some((one) => String(one.names) === name);
    return {
      count: rows.length, counts: sums(this.counts), totals: sums(this.totals), conditions, notes: [],
      cards: [...new Set(asked)].slice(0, 40).map((name) => this.histogram(name, query, isOwn(name) ? this.rows(query, name) : rows)),
      splits: this.n_by(query, rows, "split", this.about.splits, this.split),
      campaigns: this.about.campaigns.length > 1 ? this.n_by(query, rows, "campaign", this.about.campaigns, this.campaign) : {},
      rows: this.page(query, rows),
    };
  }

  async galaxy(query) {
    const named = this.ids.flatMap((id, i) => (id === query.get("id") ? [i] : []));
    const own = named.filter((row) => this.about.campaigns[this.campaign[row]] === query.get("of"));
    const row = (own.length ? own : named)[0];
    if (row === undefined) throw new Wrong(`Galaxy not found: '${String(query.get("id")).slice(0, 80)}'.`, { expected: "the id_str of a galaxy of this site.", status: 404 });
    const order = this.order(query, this.rows(query));
    const i = order.indexOf(row);
    const near = (one) => (i < 0 || order[one] === undefined ? null : { row: order[one], id: this.ids[order[one]] });
    return { ...(await file(`galaxy/${row}`)), place: i < 0 ? null : i + 1, n: order.length, previous: near(i - 1), next: near(i + 1) };
  }

  sky(query) {
    const points = this.rows(query).flatMap((row) => (this.x[row] === null ? [] : [this.x[row], this.y[row]]));
    return { n: points.length / 2, points };
  }

  async model(query) {
    const known = this.about.questions.filter((one) => one.predicted);
    const question = query.get("question") ? known.find((one) => one.name === query.get("question")) : known[0];
    const answer = query.get("answer") ? question?.answers.find((one) => one.answer === query.get("answer")) : question?.answers[0];
    if (!answer) throw new Wrong("Predicted question or answer not found.", { status: 404 });
    const { bins, ...found } = await file(`model/${answer.index}`);
    found.isUnfiltered = ["q", "split", "campaign"].some((name) => query.get(name));
    return query.get("bin") ? { ...found, ...(bins[query.get("bin")] ?? { listed: [], n_listed: 0 }) } : found;
  }

  select(query) {
    const conditions = query.get("q") ? [`(${query.get("q")})`] : [];
    for (const [name, column] of [["split", "split"], ["campaign", "dataset_name"]]) {
      const values = (query.get(name) ?? "").split(",").filter(Boolean).map((one) => `'${one.replaceAll("'", "''")}'`);
      if (values.length) conditions.push(`${column} in (${values.join(", ")})`);
    }
    const where = conditions.length === 1 && query.get("q") ? query.get("q") : conditions.join(" and ") || "id_str is not missing";
    return { command: `gzoo select ${this.about.name} --where "${where.replaceAll(/["$`\\]/g, "\\$&")}" --out selected.parquet` };
  }

  table(query, format) {
    const rows = this.order(query, this.rows(query));
    if (format === "txt") return rows.map((row) => `${this.ids[row]}\n`).join("");
    const columns = this.names.filter((one) => one.isSaved);
    const cell = (value) => (value === null ? "" : /[",\n\r]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
    return [columns.map((one) => one.name), ...rows.map((row) => columns.map((one) => one.values[row]))].map((line) => `${line.map(cell).join(",")}\n`).join("");
  }
}

let site;
const whole = () => (site ??= file("site").then((data) => new Site(data)));

export async function answer(what, query) {
  try {
    const found = await whole();
    switch (what) {
      case "about": return found.about;
      case "overview": return found.overview;
      case "names": return { names: found.names.filter((one) => one.isKnown).map(({ spelling, kind }) => ({ name: spelling, kind })) };
      case "check": return { n_parts: found.parts(query.get("q") ?? "").length };
      case "rows": return { rows: found.page(query, found.rows(query)) };
      case "row": return { rows: found.tiles([Number(query.get("row"))], new URLSearchParams()) };
      default: return await found[what](query);
    }
  } catch (error) {
    if (error instanceof Wrong) return error.body;
    throw error;
  }
}

export async function table(query, format) {
  return (await whole()).table(query, format);
}

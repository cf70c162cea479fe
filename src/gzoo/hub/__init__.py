"""The Hugging Face Hub: the only package that talks to other machines.

Downloads use the cache of the Hub's own client, in its layout. gzoo adds three rules. The Hub is asked for permission
before anything is read; a cached copy is used without permission only if the Hub cannot be reached, and a warning says
so. Every file is compared with the Hub's listing, and with the manifest of gzoo if there is one; a file that differs is
removed. A revision such as `main` is recorded in the cache only once every requested file of its commit is complete.

    waiting      lines during silence, and Ctrl-C at any time
    client       requests with retries, listings, progress
    transfers    Xet, or plain HTTP if it fails
    cache        the client's cache and the record of verified files
    card         dataset cards: metadata and the files of each config
    additions    what owners add to cards
    permissions  who may read a dataset
    download     verified downloads
    upload       verified uploads
"""

from gzoo.hub.additions import Additions as Additions
from gzoo.hub.additions import card_text as card_text
from gzoo.hub.additions import replaced_parts as replaced_parts
from gzoo.hub.additions import split_card as split_card
from gzoo.hub.additions import with_additions as with_additions
from gzoo.hub.cache import identity_of as identity_of
from gzoo.hub.card import CARD as CARD
from gzoo.hub.card import card_metadata as card_metadata
from gzoo.hub.client import ignore_progress as ignore_progress
from gzoo.hub.download import PICKLES as PICKLES
from gzoo.hub.download import copy_of as copy_of
from gzoo.hub.download import copy_of_model as copy_of_model
from gzoo.hub.download import load_dataset as load_dataset
from gzoo.hub.download import pretrained_weights as pretrained_weights
from gzoo.hub.permissions import EXIT_CODES as EXIT_CODES
from gzoo.hub.permissions import Access as Access
from gzoo.hub.permissions import access as access
from gzoo.hub.permissions import repository_of as repository_of
from gzoo.hub.upload import Upload as Upload
from gzoo.hub.upload import UploadResult as UploadResult
from gzoo.hub.upload import require_login as require_login

"""Catalogues: tables of galaxies that other programs read."""

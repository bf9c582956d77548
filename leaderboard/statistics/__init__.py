"""Draws to figures, intervals and ranks: numbers, without files and without pages."""

"""The board as a site, tables and charts."""

"""A run's chosen rows as a dataset that stands alone: parquet with images inside, and a card."""

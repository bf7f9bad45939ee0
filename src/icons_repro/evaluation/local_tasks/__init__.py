"""lmms-eval task templates over local parquet files, and the functions they name."""

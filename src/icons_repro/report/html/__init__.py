"""The pages' templates, style and scripts, and how one page is put together."""

"""Rules that are a file each: from influence, by task or by validation row, to rows."""

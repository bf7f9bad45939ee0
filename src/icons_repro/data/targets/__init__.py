"""Builders of the paper's target tasks, from each benchmark's own dev or train split.

`questions` says how a benchmark's row is asked and answered, `sources` where rows and images come
from, `coco` makes POPE's questions, `builders` lists the ten tasks, and `build` draws the rows,
leaves out what the test split shows, and writes LLaVA-format files with a statement of both.
"""

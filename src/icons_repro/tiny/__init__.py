"""The embedded world: a miniature of LLaVA-665K, its target tasks and benchmarks, on two cores.

`world.build_world` writes a world to a folder, `model.write_tiny_base` the base model that ships,
`corpus.write_corpus` the data that the shipped
base model was pre-trained on. Everything is drawn from named random streams (`streams.py`), and the
pixels of an image decide which split it may appear in, so that no test image is ever seen in a pool
or in pre-training, whatever the seeds.
"""

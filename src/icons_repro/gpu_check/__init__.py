"""Ten minutes on the first GPU: is it right there, and how fast?

`python -m icons_repro.gpu_check` needs torch, transformers, peft, lightning, numpy, pyarrow and
safetensors, no network, no account and no file: models are drawn from their configs, images and
texts at random.
"""

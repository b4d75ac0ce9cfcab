from pathlib import Path

from memory3.testing.checkpoints import tiny_checkpoint


def test_special_tokens_in_a_text_stay_text(tmp_path: Path) -> None:
    """A text that spells a special token neither begins nor ends anything."""
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint")
    text = "one <s> two </s> three <pad>"
    ids = checkpoint.tokenizer.encode(text, add_special_tokens=False).ids
    special = {checkpoint.config.separator_id, checkpoint.config.eos_id, checkpoint.config.pad_id}
    assert set() == special & set(ids)
    assert text == checkpoint.tokenizer.decode(ids, skip_special_tokens=False)

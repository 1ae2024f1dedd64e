#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains small tokenizers with Hugging Face's `tokenizers` and writes what they make of nasty texts.

usage: make_tokenizer.py tinyshakespeare.txt

tokenizer-gpt2.json    byte-level, GPT-2's pattern
tokenizer-llama3.json  byte-level, Llama 3's pattern, ignore_merges, merges as pairs
tokenizer-llama2.json  characters, byte_fallback, spaces as U+2581
tokenizer-nfc.json     byte-level, NFC, added tokens with every option
tokenizer-nfkc.json    characters, NFKC and a replacement, Metaspace before the first piece, byte_fallback
tokenizer-meta.json    characters, Metaspace before every piece, whose words are cut; NFD; added tokens
tokenizer-bert.json    WordPiece as BERT's uncased models have it: template, padding
tokenizer-cased.json   WordPiece, BertNormalizer that keeps case and accents, pieces marked by "@@", short words only
tokenizer-words.json   WordPiece; NFD, Lowercase, StripAccents; white space, punctuation removed, digits, split patterns
tokenizer-ids.txt      a line a text: tokenizer, the text in hexadecimal, its tokens; "-" stands for none; then, behind
                       "=", what decoding gives, in hexadecimal
tokenizer-wordpiece-ids.txt  the same of the three WordPiece models
"""
import collections
import json
import os
import random
import sys

from tokenizers import (
    AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers)

HERE = os.path.dirname(os.path.abspath(__file__))
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
TEXTS = [
    "", " ", "  ", "\n", "\n\n\n", " \n \n", "\t\ttabs\t", "hello", " hello", "  hello", "hello  ", "Hello, World!",
    "it's we'll I'VE they'd o'clock 'tis '''", "IT'S WE'LL \u017f'\u017f",
    "0 1 12 123 1234 12345 3.14159 1,000,000 \u0661\u0662\u0663 \u00bd \u2167 x2y",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3002\u4e2d\u6587\uff0c\ud55c\uad6d\uc5b4",
    "\U0001F600 \U0001F468\u200d\U0001F469\u200d\U0001F467\u200d\U0001F466 \U0001F1E9\U0001F1EA \u2764\ufe0f",
    "e\u0301 a\u0308\u0323 \u0928\u092e\u0938\u094d\u0924\u0947 \u0e01\u0e33\u0e25\u0e31\u0e07",
    "\u00a0nbsp\u00a0 \u3000wide\u3000 \u2003em\u2028line\u2029par\u0085nel\u180evowel\u200bzero\ufeffbom",
    "a\r\nb\rc\n\rd \r\n \r\n", "trailing spaces   \nand   inner", "\x00\x01\x02\x7f\x1c\x1d\x1e\x1f",
    "<|endoftext|>", "before<|endoftext|>after", "<|endoftext|><|endoftext|> <|endoftext", "x<|pad|>y<|padded|>z",
    "snake_case camelCase kebab-case $x += 1; // \u00e7a va? \u00bfqu\u00e9? \u2026", "\u0130stanbul \u0131 \u1e9e \u00df \ufb01",
    "\u0399\u0395\u03a3 \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "a" * 300, " " * 300, "ab " * 100, "\u2581under\u2581score", "<0x41><unk>", "\ud7ff\ue000\uffff\U0010ffff",
]


def texts(corpus):
    generator = random.Random(7)
    alphabet = "aeiou tnshrdl  '\n\r\t.,0123456789\u00e9\u00df\u4e2d\U0001F600\u0301\u00a0\u3000" + corpus[:80]
    made = list(TEXTS) + [corpus[i : i + 200] for i in range(0, 200000, 20011)]
    for _ in range(60):
        made.append("".join(generator.choice(alphabet) for _ in range(generator.randrange(1, 60))))
    return made


def train_bytes(corpus, size, pre_tokenizer):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [corpus],
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=["<|endoftext|>", "<|pad|>", "<|padded|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def train_characters(corpus, size):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    # whole lines would become one token each: train on words
    words = corpus.split()[:40000]
    tokenizer.train_from_iterator(
        words, trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    )
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if not t["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(state))


ADDED = [
    AddedToken("<mask>", lstrip=True, special=True), AddedToken("<sep>", rstrip=True, special=True),
    AddedToken("<both>", lstrip=True, rstrip=True, normalized=False), AddedToken("word", single_word=True),
    AddedToken("caf\u00e9", normalized=True), AddedToken("re\u0301sume\u0301", normalized=True, single_word=True),
    AddedToken("caf\u00e9s", normalized=False), AddedToken("\ufb01n", normalized=True, lstrip=True),
]
MORE_TEXTS = [
    "a <mask> b", "a  \t<mask>  b", "<mask><mask> <mask>", "a <sep> \n b<sep>", " <sep><mask> ", "x <both> y <both>z<both>",
    "word", "a word.", "sword word words _word word_ word\u0301 (word) word1 \u24b6word word\u200d wordword word word",
    "cafe\u0301 caf\u00e9 cafe\u0301s caf\u00e9s", "r\u00e9sum\u00e9 re\u0301sume\u0301s re\u0301sume\u0301",
    "\ufb01n  fin \ufb01ne", "\u212b \u2126 \u1e9b\u0323 \u0344 \u0958 \ud55c \u1112\u1161\u11ab \uff21\uff42 \u00b2 \u2460 \u33a5",
    "q\u0323\u0307 q\u0307\u0323 \u0061\u0315\u0300\u05ae\u0301\u0062", "\u2581a \u2581 b \u2581\u2581c", " two  spaces ", "\u3000\u00a0 x",
]


def train_meta(corpus, pre_tokenizer, normalizer, decoder, size=380):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoder
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    tokenizer.train_from_iterator(corpus.split("\n")[:4000], trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, show_progress=False))
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if not t["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.normalizer = normalizer
    return tokenizer


def more(corpus, lines):
    nfc = train_bytes(corpus, 300, pre_tokenizers.ByteLevel(add_prefix_space=True))
    nfc.normalizer = normalizers.NFC()
    nfc.add_tokens(ADDED)
    write("nfc", nfc, corpus, lines, True, MORE_TEXTS)
    meta = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    words = pre_tokenizers.Metaspace(prepend_scheme="always")
    llama = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    nfkc = train_meta(corpus, words, normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("''", '"')]), llama)
    nfkc.pre_tokenizer = meta
    nfkc.add_tokens(ADDED)
    write("nfkc", nfkc, corpus, lines, True, MORE_TEXTS)
    nfd = train_meta(corpus, words, normalizers.NFD(), decoders.Metaspace(prepend_scheme="always"))
    nfd.add_tokens(ADDED)
    write("meta", nfd, corpus, lines, True, MORE_TEXTS)


# What BERT's parts tell apart, by code point: white space, controls, format characters, punctuation, symbols, marks (some
# of them younger than the tables behind those parts), case that isn't one to one, ideographs in and beside their blocks.
POINTS = (
    list(range(0x00, 0x180)) + list(range(0x300, 0x345)) + [0x37E, 0x387, 0x3A3, 0x3C2, 0x483, 0x488, 0x590, 0x5BE]
    + [0x600, 0x61C, 0x61D, 0x66A, 0x6DD, 0x70F, 0x7FD, 0x890, 0x898, 0x8CA, 0x8E2, 0x8E3, 0x903, 0x93E, 0x9FD, 0x9FE]
    + [0xA76, 0xAFA, 0xC04, 0xC77, 0x1680, 0x166D, 0x166E, 0x1734, 0x1715, 0x180B, 0x180E, 0x180F, 0x1885, 0x1ABE, 0x1ABF]
    + [0x1CF2, 0x1CF7, 0x1DF5, 0x1DF6, 0x1E9E] + list(range(0x2000, 0x2070)) + [0x20DD, 0x20E3, 0x2116, 0x2160, 0x24B6]
    + [0x2212, 0x2028, 0x2E42, 0x2E43, 0x2E5D, 0x3000, 0x3001, 0x302A, 0x302E, 0x3040, 0x309B, 0x33FF, 0x3400, 0x4DBF]
    + [0x4DC0, 0x4E00, 0x9FFF, 0xA000, 0xA66F, 0xA670, 0xA82C, 0xA8C5, 0xAC00, 0xD7A3, 0xE000, 0xF8FF, 0xF900, 0xFAFF]
    + [0xFB01, 0xFB1E, 0xFE0F, 0xFE10, 0xFEFF, 0xFF01, 0xFF21, 0xFFF9, 0xFFFC, 0xFFFD, 0x10400, 0x10A01, 0x10D24]
    + [0x110BD, 0x110CD, 0x11100, 0x111C9, 0x111CF, 0x13430, 0x16AF0, 0x1D165, 0x1D400, 0x1E944, 0x1F600, 0x20000]
    + [0x2A6DF, 0x2A6E0, 0x2A700, 0x2B73F, 0x2B740, 0x2B81F, 0x2B820, 0x2B91F, 0x2B920, 0x2CEAF, 0x2CEB0, 0x2F800]
    + [0x2FA1F, 0x2FA20, 0xE0001, 0xE0020, 0xF0000, 0x10FFFF]
)
PIECE_TEXTS = [
    "[CLS] hello [SEP]", "[MASK]ed [MASK] [mask]", "un##related ##ing", "a" * 100, "a" * 101, "e" * 12 + " " + "e" * 13,
    "Hello, world! It's 5 o'clock.", "do not won't I'm they've we're John's say 'so' .. , ! ?", "\u00c5ngstr\u00f6m \u00c9COLE na\u00efve",
    "\u4e2d\u6587abc\u4e2d 123\u4e2d", "\u0130\u0131I\u00df\u1e9e", "x\u200by\u00adz\ufeffw", "snake_case $9.99 50% a^b `c` ~d",
]


def piece_texts(corpus):
    generator = random.Random(11)
    words = corpus.split()
    made = list(PIECE_TEXTS) + ["a%sb" % chr(point) for point in POINTS]
    points = [chr(point) for point in POINTS] + list("aeiou tnshrdl  ,.'!?\n") * 12
    for _ in range(600):
        parts = []
        for _ in range(generator.randrange(1, 7)):
            word = generator.choice(words)
            kind = generator.randrange(8)
            if kind < 3:
                word = "".join(generator.choice(points) for _ in range(generator.randrange(1, 8)))
            elif kind == 3:
                word = word.upper()
            elif kind == 4:
                at = generator.randrange(len(word) + 1)
                word = word[:at] + generator.choice(points) + word[at:]
            parts.append(word)
        made.append(generator.choice([" ", " ", "  ", "\t", "\u3000", "-"]).join(parts))
    return made


def train_pieces(corpus, size, prefix, normalizer, pre_tokenizer, longest):
    """The most frequent parts of words, counted here: `tokenizers`' trainer breaks ties by chance."""
    counts = collections.Counter()
    for text in corpus.split("\n")[:4000] + piece_texts(corpus):
        for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text)):
            for start in range(min(len(word), 12)):
                for end in range(start + 1, min(len(word), start + 6) + 1):
                    counts[(prefix if start > 0 else "") + word[start:end]] += 1 if end > start + 1 else 3
    vocab = {piece: i for i, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])}
    for piece, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: size - len(vocab)]:
        vocab[piece] = len(vocab)
    tokenizer = Tokenizer(models.WordPiece(
        vocab, unk_token="[UNK]", continuing_subword_prefix=prefix, max_input_chars_per_word=longest))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    return tokenizer


def pieces(corpus, lines):
    texts_of_pieces = piece_texts(corpus)
    bert = train_pieces(corpus, 1500, "##", normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), 100)
    bert.decoder = decoders.WordPiece()
    bert.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", bert.token_to_id("[CLS]")), ("[SEP]", bert.token_to_id("[SEP]"))])
    bert.enable_padding(pad_id=0, pad_token="[PAD]")
    write("bert", bert, corpus, lines, None, texts_of_pieces)
    cased = train_pieces(
        corpus, 1400, "@@", normalizers.BertNormalizer(strip_accents=False, lowercase=False, handle_chinese_chars=False),
        pre_tokenizers.Whitespace(), 12)
    cased.decoder = decoders.WordPiece(prefix="@@", cleanup=False)
    cased.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    write("cased", cased, corpus, lines, None, texts_of_pieces)
    split = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("removed"), pre_tokenizers.Split("the", "removed"),
        pre_tokenizers.Split(Regex("[^q]+"), "removed", invert=True), pre_tokenizers.Digits(individual_digits=True)])
    words = train_pieces(
        corpus, 1300, "##",
        normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]), split, 100)
    words.add_tokens(ADDED)
    write("words", words, corpus, lines, None, texts_of_pieces + MORE_TEXTS)


def write(name, tokenizer, corpus, lines, pairs, own_texts=None):
    state = json.loads(tokenizer.to_str())
    if pairs is False:
        state["model"]["merges"] = [" ".join(m) if isinstance(m, list) else m for m in state["model"]["merges"]]
    with open(os.path.join(HERE, f"tokenizer-{name}.json"), "w", encoding="utf-8") as file:
        json.dump(state, file, ensure_ascii=pairs is None, separators=(",", ":"))
        file.write("\n")
    tokenizer = Tokenizer.from_file(os.path.join(HERE, f"tokenizer-{name}.json"))
    tokenizer.no_padding()
    for text in texts(corpus) + (own_texts or []):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        line = f"{name} {text.encode().hex() or '-'} {' '.join(map(str, ids)) or '-'}"
        if own_texts is not None and name != "nfc":  # ByteLevel's decoder takes added tokens for its alphabet too
            line += f" = {tokenizer.decode(ids, skip_special_tokens=False).encode().hex() or '-'}"
        lines.append(line)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        corpus = file.read()
    lines = []
    write("gpt2", train_bytes(corpus, 640, pre_tokenizers.ByteLevel(add_prefix_space=False)), corpus, lines, False)
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    llama3 = train_bytes(corpus, 480, split)
    state = json.loads(llama3.to_str())
    state["model"]["ignore_merges"] = True
    write("llama3", Tokenizer.from_str(json.dumps(state)), corpus, lines, True)
    write("llama2", train_characters(corpus, 560), corpus, lines, False)
    more(corpus, lines)
    own_lines = []
    pieces(corpus, own_lines)
    for name, written in ("ids", lines), ("wordpiece-ids", own_lines):
        with open(os.path.join(HERE, f"tokenizer-{name}.txt"), "w", encoding="utf-8") as file:
            file.write("\n".join(written) + "\n")


if __name__ == "__main__":
    main()

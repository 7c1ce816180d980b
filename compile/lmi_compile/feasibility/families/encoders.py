"""Encoders, T5, and vision models."""

from dataclasses import replace

from lmi_compile.feasibility.families.parts import Sizes, Tensors, attention, mlp, shape
from lmi_compile.feasibility.fields import Fields
from lmi_compile.feasibility.shape import Shape, Tensor, linear, norm, table


def bert(fields: Fields) -> Shape:
    """BERT with the head that `architectures` names."""
    sizes = _sizes(fields)
    body = _body(fields, sizes, sizes.hidden)
    head = _architecture(fields)
    pooler: Tensors = ()
    if "MaskedLM" not in head and "TokenClass" not in head and "QuestionAnswering" not in head:
        pooler = linear("other", sizes.hidden, sizes.hidden, bias=True, split="none")
    return _encoder(fields, sizes, (*body, *pooler, *_head(fields, sizes, head)))


def roberta(fields: Fields) -> Shape:
    """RoBERTa: BERT's body; a pooler only where there is no head."""
    sizes = _sizes(fields)
    body = _body(fields, sizes, sizes.hidden)
    head = _architecture(fields)
    extra: Tensors = ()
    if head.endswith("Model") or "SequenceClassification" in head:
        extra = linear("other", sizes.hidden, sizes.hidden, bias=True, split="none")
    return _encoder(fields, sizes, (*body, *extra, *_head(fields, sizes, head)))


def electra(fields: Fields) -> Shape:
    """ELECTRA: a narrower embedding with its projection; the discriminator's head scores tokens."""
    sizes = _sizes(fields)
    width = fields.number("embedding_size", default=sizes.hidden)
    project: Tensors = ()
    if width != sizes.hidden:
        project = linear("other", sizes.hidden, width, bias=True, split="none")
    head = _architecture(fields)
    extra: Tensors = ()
    if "PreTraining" in head or "SequenceClassification" in head:
        extra = linear("other", sizes.hidden, sizes.hidden, bias=True, split="none")
    if "PreTraining" in head:
        extra += linear("other", 1, sizes.hidden, bias=True, split="none")
    elif "MaskedLM" in head:
        extra = (
            *linear("other", width, sizes.hidden, bias=True, split="none"),
            *norm(width, 1, bias=True),
            Tensor("head", sizes.vocabulary),
        )
    else:
        extra += _head(fields, sizes, head)
    return _encoder(fields, sizes, (*_body(fields, sizes, width), *project, *extra))


def t5(fields: Fields) -> Shape:
    """T5 and its v1.1: an encoder and a decoder with cross attention, RMS norms, no biases."""
    hidden = fields.number("d_model")
    heads = fields.heads("num_heads")
    encoder = fields.layers("num_layers")
    decoder = fields.number("num_decoder_layers", default=encoder, most=10_000)
    sizes = Sizes(
        hidden=hidden,
        layers=encoder + 2 * decoder,
        heads=heads,
        kv_heads=heads,
        head_dim=fields.number("d_kv"),
        intermediate=fields.number("d_ff"),
        vocabulary=fields.rows(),
        max_positions=None,
    )
    gated = fields.text("feed_forward_proj", "relu").startswith("gated-")
    buckets = fields.number("relative_attention_num_buckets", default=32)
    tied = fields.flag("tie_word_embeddings", default=True)
    head = linear("head", sizes.vocabulary, hidden, split="vocabulary")
    tensors = (
        *table(sizes.vocabulary, hidden),
        *(() if tied else head),
        *attention(sizes),
        *mlp(hidden, sizes.intermediate, encoder + decoder, gated=gated),
        Tensor("other", buckets, heads, 2),
        *norm(hidden, 2 * encoder + 3 * decoder + 2),
    )
    return Shape(
        model_type=fields.text("model_type", ""),
        tensors=tensors,
        layers=2 * decoder,
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=sizes.head_dim,
        intermediate=sizes.intermediate,
        vocabulary=sizes.vocabulary,
        max_positions=None,
        tied=tied,
    )


def vit(fields: Fields) -> Shape:
    """ViT with its classifier."""
    sizes = _sizes(fields, vocabulary=False)
    size = fields.number("image_size", default=224)
    patch = fields.number("patch_size", default=16)
    channels = fields.number("num_channels", default=3)
    bias = fields.flag("qkv_bias", default=True)
    patches = (size // patch) ** 2
    labels = _labels(fields)
    head = _architecture(fields)
    last: Tensors = linear("other", labels, sizes.hidden, bias=True, split="none")
    if head.endswith("Model"):
        last = linear("other", sizes.hidden, sizes.hidden, bias=True, split="none")
    tensors = (
        Tensor("other", patches + 2, sizes.hidden),
        *linear("convolution", sizes.hidden, channels * patch * patch, bias=True, split="none"),
        *attention(sizes, bias=bias, out_bias=True),
        *mlp(sizes.hidden, sizes.intermediate, sizes.layers, gated=False, bias=True),
        *norm(sizes.hidden, 2 * sizes.layers + 1, bias=True),
        *last,
    )
    return _encoder(fields, sizes, tensors, positions=patches + 1)


def resnet(fields: Fields) -> Shape:
    """ResNet with bottleneck or basic blocks, and its classifier."""
    widths = fields.numbers("hidden_sizes", (256, 512, 1024, 2048))
    depths = fields.numbers("depths", (3, 4, 6, 3))
    fields.require(len(widths) == len(depths), "hidden_sizes and depths differ in length")
    stem = fields.number("embedding_size", default=64)
    channels = fields.number("num_channels", default=3)
    bottleneck = fields.text("layer_type", "bottleneck") == "bottleneck"
    early = fields.flag("downsample_in_first_stage", default=False)
    tensors: list[Tensor] = [*_convolution(channels, stem, 7)]
    inside = stem
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=False)):
        for block in range(depth):
            strided = block == 0 and (stage > 0 or early)
            if inside != width or strided:
                tensors += _convolution(inside, width, 1)
            tensors += _block(inside, width, bottleneck=bottleneck)
            inside = width
    tensors += linear("other", _labels(fields), inside, bias=True, split="none")
    sizes = Sizes(
        hidden=inside, layers=max(1, sum(depths)), heads=1, kv_heads=1, head_dim=1,
        intermediate=inside, vocabulary=0, max_positions=None,
    )  # fmt: skip
    return _encoder(fields, sizes, tuple(tensors), positions=None)


def _convolution(inside: int, outside: int, kernel: int) -> Tensors:
    weight = Tensor("convolution", outside, inside * kernel * kernel)
    return (weight, *norm(outside, 1, bias=True))


def _block(inside: int, outside: int, *, bottleneck: bool) -> Tensors:
    if not bottleneck:
        return (*_convolution(inside, outside, 3), *_convolution(outside, outside, 3))
    narrow = max(1, outside // 4)
    return (
        *_convolution(inside, narrow, 1),
        *_convolution(narrow, narrow, 3),
        *_convolution(narrow, outside, 1),
    )


def _sizes(fields: Fields, *, vocabulary: bool = True) -> Sizes:
    hidden = fields.number("hidden_size")
    heads = fields.heads()
    return Sizes(
        hidden=hidden,
        layers=fields.layers(),
        heads=heads,
        kv_heads=heads,
        head_dim=fields.head_dim(hidden, heads),
        intermediate=fields.number("intermediate_size"),
        vocabulary=fields.rows() if vocabulary else 0,
        max_positions=fields.number("max_position_embeddings") if vocabulary else None,
    )


def _body(fields: Fields, sizes: Sizes, width: int) -> Tensors:
    types = fields.number("type_vocab_size", default=2)
    return (
        *table(sizes.vocabulary, width),
        Tensor("other", (sizes.max_positions or 0) + types, width),
        *norm(width, 1, bias=True),
        *attention(sizes, bias=True, out_bias=True),
        *mlp(sizes.hidden, sizes.intermediate, sizes.layers, gated=False, bias=True),
        *norm(sizes.hidden, 2 * sizes.layers, bias=True),
    )


def _head(fields: Fields, sizes: Sizes, architecture: str) -> Tensors:
    if "MaskedLM" in architecture:
        return (
            *linear("other", sizes.hidden, sizes.hidden, bias=True, split="none"),
            *norm(sizes.hidden, 1, bias=True),
            Tensor("head", sizes.vocabulary),
        )
    if "Classification" in architecture:
        return linear("other", _labels(fields), sizes.hidden, bias=True, split="none")
    if "QuestionAnswering" in architecture:
        return linear("other", 2, sizes.hidden, bias=True, split="none")
    return ()


def _labels(fields: Fields) -> int:
    named = fields.config.get("id2label")
    if isinstance(named, dict):
        return max(1, len(named))
    return fields.number("num_labels", default=2)


def _architecture(fields: Fields) -> str:
    return next(iter(fields.words("architectures")), "Model")


def _encoder(fields: Fields, sizes: Sizes, tensors: Tensors, *, positions: int | None = 0) -> Shape:
    most = sizes.max_positions if positions == 0 else positions
    made = shape(fields, sizes, tensors, tied=False)
    return replace(made, vocabulary=0, max_positions=most, generates=False)

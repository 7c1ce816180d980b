"""A small serving engine: a Llama-like decoder with a key/value cache, batches and padding.

It is what the battery seeds faults in. It is written apart from the product and from transformers,
so a clean engine that the judge accepts is a second opinion, and every decision that an engine can
get wrong is one field of `Wiring`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional
from transformers import AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """What an engine decides beside the weights.

    Attributes:
        heads, kv_heads, head_dim, eps: Of the architecture.
        order: The layers in the order they run.
        inv_freq: RoPE's inverse frequencies `[head_dim / 2]`, and `rope_gain` on cos and sin.
        window: How many positions back a query may look; None without a limit.
        causal: Whether a prompt's positions are kept from looking ahead.
        repeat: How key/value heads are given to query heads; `interleave` is right.
        decode_shift: Added to the position of every decoded token.
        clears: Whether a request starts with an empty cache.
        padding_seen: Whether padding of a batch can be attended to.
        neighbour_slots: How many of a sequence's cache slots are read from its neighbour's.
        logit_scale: Factor on the logits.
        fp8_ranges: By layer and linear, the largest activation that E4M3 shall hold; with
            `fp8_saturates`, larger ones are cut to it.
    """

    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    order: tuple[int, ...]
    inv_freq: torch.Tensor
    rope_gain: float = 1.0
    window: int | None = None
    causal: bool = True
    repeat: Literal["interleave", "tile"] = "interleave"
    decode_shift: int = 0
    clears: bool = True
    padding_seen: bool = False
    neighbour_slots: int = 0
    logit_scale: float = 1.0
    fp8_ranges: dict[str, float] | None = None
    fp8_saturates: bool = True


def wiring_of(config: AutoConfig) -> Wiring:
    """The wiring that a Hugging Face config asks for."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    if rope["rope_type"] == "default":
        steps = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
        inv_freq, gain = 1.0 / rope["rope_theta"] ** steps, 1.0
    else:
        inv_freq, gain = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, torch.device("cpu"))
    return Wiring(
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=head_dim,
        eps=config.rms_norm_eps,
        order=tuple(range(config.num_hidden_layers)),
        inv_freq=inv_freq,
        rope_gain=gain,
        window=getattr(config, "sliding_window", None),
    )


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Keys and values that a batch has written: what was read so far.

    Attributes:
        keys, values: By layer, `[batch, kv heads, slots, head_dim]`.
        seen: `[batch, slots]`, False where a slot must not be looked at.
        places: `[batch, slots]`, the position of each slot's token.
        next: `[batch]`, the position of the next token.
    """

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    seen: torch.Tensor
    places: torch.Tensor
    next: torch.Tensor

    def latest(self, slots: int) -> "Cache":
        """The last `slots` of it."""
        return Cache(
            keys=tuple(each[:, :, -slots:] for each in self.keys),
            values=tuple(each[:, :, -slots:] for each in self.values),
            seen=self.seen[:, -slots:],
            places=self.places[:, -slots:],
            next=self.next,
        )

    def rows(self, chosen: Sequence[int]) -> "Cache":
        """The cache of some of the batch's sequences."""
        index = torch.tensor(chosen)
        return Cache(
            keys=tuple(each[index] for each in self.keys),
            values=tuple(each[index] for each in self.values),
            seen=self.seen[index],
            places=self.places[index],
            next=self.next[index],
        )


class Engine:
    """Runs prompts; `weights` by their Hugging Face names, in the dtype that is computed in."""

    def __init__(self, weights: Weights, wiring: Wiring) -> None:
        self.weights = weights
        self.wiring = wiring
        self._left: Cache | None = None

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[list[torch.Tensor], Cache]:
        """Reads prompts as one batch, padded in front.

        Returns:
            Logits `[n, vocab]` of every prompt, and the batch's cache.
        """
        longest = max(map(len, prompts))
        tokens = torch.zeros(len(prompts), longest, dtype=torch.int64)
        real = torch.zeros(len(prompts), longest, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
            real[row, longest - len(prompt) :] = True
        places = torch.arange(longest) - (~real).sum(1, keepdim=True)
        past = None
        if not self.wiring.clears and self._left is not None:
            past = self._left.rows([row % len(self._left.next) for row in range(len(prompts))])
        logits, cache = self._forward(
            tokens,
            places,
            seen=real | self.wiring.padding_seen,
            past=past,
            causal=self.wiring.causal,
            neighbours=self.wiring.neighbour_slots,
        )
        self._left = cache.latest(longest)
        return [rows[longest - len(each) :] for rows, each in zip(logits, prompts, strict=True)], (
            cache
        )

    @torch.inference_mode()
    def decode(
        self, tokens: torch.Tensor, cache: Cache, *, together: bool = False
    ) -> tuple[torch.Tensor, Cache]:
        """Reads `tokens` `[batch, steps]` one after the other, in one call.

        Args:
            tokens: Ids.
            cache: Of what stands before them.
            together: The sequences were served as a batch; else they only share this call.

        Returns:
            Logits `[batch, steps, vocab]`, and the cache with the tokens in it.
        """
        steps = torch.arange(tokens.shape[1])
        return self._forward(
            tokens,
            cache.next[:, None] + steps,
            seen=torch.ones_like(tokens, dtype=torch.bool),
            past=cache,
            shift=self.wiring.decode_shift,
            neighbours=self.wiring.neighbour_slots if together else 0,
        )

    def _forward(
        self,
        tokens: torch.Tensor,
        places: torch.Tensor,
        *,
        seen: torch.Tensor,
        past: Cache | None,
        causal: bool = True,
        shift: int = 0,
        neighbours: int = 0,
    ) -> tuple[torch.Tensor, Cache]:
        hidden = functional.embedding(tokens, self.weights["model.embed_tokens.weight"])
        mask = self._mask(places, seen, past, causal=causal)
        turned = self._rope(places + shift, hidden.dtype)
        keys, values = [], []
        for layer in self.wiring.order:
            name = f"model.layers.{layer}."
            slot = len(keys)
            held = None if past is None else (past.keys[slot], past.values[slot])
            out, key, value = self._attend(name, hidden, turned, mask, held, neighbours)
            hidden = hidden + out
            hidden = hidden + self._mlp(name, hidden)
            keys.append(key)
            values.append(value)
        hidden = self._norm("model.norm", hidden)
        head = "lm_head" if "lm_head.weight" in self.weights else "model.embed_tokens"
        logits = functional.linear(hidden, self.weights[f"{head}.weight"]).float()
        if past is not None:
            seen = torch.cat((past.seen, seen), 1)
            places = torch.cat((past.places, places), 1)
        cache = Cache(
            keys=tuple(keys),
            values=tuple(values),
            seen=seen,
            places=places,
            next=places[:, -1] + 1,
        )
        return logits * self.wiring.logit_scale, cache

    def _attend(
        self,
        name: str,
        hidden: torch.Tensor,
        turned: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor,
        held: tuple[torch.Tensor, torch.Tensor] | None,
        neighbours: int,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        wired = self.wiring
        normed = self._norm(f"{name}input_layernorm", hidden)
        query, key, value = (
            self._linear(f"{name}self_attn.{part}_proj", normed)
            .unflatten(-1, (-1, wired.head_dim))
            .transpose(1, 2)
            for part in "qkv"
        )
        query, key = _turn(query, *turned), _turn(key, *turned)
        if held is not None:
            key, value = torch.cat((held[0], key), 2), torch.cat((held[1], value), 2)
        read_key, read_value = (self._repeat(_mixed(each, neighbours)) for each in (key, value))
        out = functional.scaled_dot_product_attention(query, read_key, read_value, attn_mask=mask)
        flat = out.transpose(1, 2).flatten(2)
        return self._linear(f"{name}self_attn.o_proj", flat), key, value

    def _repeat(self, heads: torch.Tensor) -> torch.Tensor:
        times = self.wiring.heads // self.wiring.kv_heads
        if self.wiring.repeat == "tile":
            return heads.repeat(1, times, 1, 1)
        return heads.repeat_interleave(times, 1)

    def _mlp(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        normed = self._norm(f"{name}post_attention_layernorm", hidden)
        gate = functional.silu(self._linear(f"{name}mlp.gate_proj", normed))
        return self._linear(
            f"{name}mlp.down_proj", gate * self._linear(f"{name}mlp.up_proj", normed)
        )

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        ranges = self.wiring.fp8_ranges
        if ranges is not None:
            x = self._to_e4m3(x, ranges[name])
        return functional.linear(
            x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")
        )

    def _to_e4m3(self, x: torch.Tensor, largest: float) -> torch.Tensor:
        scaled = x * (E4M3_MOST / largest)
        if self.wiring.fp8_saturates:
            scaled = scaled.clamp(-E4M3_MOST, E4M3_MOST)
        return scaled.to(torch.float8_e4m3fn).to(x.dtype) * (largest / E4M3_MOST)

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.wiring.eps)
        return self.weights[f"{name}.weight"] * scaled.to(x.dtype)

    def _rope(self, places: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        angles = places[:, None, :, None].float() * self.wiring.inv_freq
        angles = torch.cat((angles, angles), -1)
        gain = self.wiring.rope_gain
        return (angles.cos() * gain).to(dtype), (angles.sin() * gain).to(dtype)

    def _mask(
        self, places: torch.Tensor, seen: torch.Tensor, past: Cache | None, *, causal: bool
    ) -> torch.Tensor:
        """`[batch, 1, queries, slots]`, True where a query may look."""
        length = places.shape[1]
        own = torch.ones(length, length, dtype=torch.bool)
        allowed = (own.tril() if causal else own) & seen[:, None, :]
        allowed = allowed | torch.eye(length, dtype=torch.bool)  # padding looks at itself
        slots = places
        if past is not None:
            before = past.seen[:, None, :].expand(-1, length, -1)
            allowed, slots = torch.cat((before, allowed), 2), torch.cat((past.places, places), 1)
        if self.wiring.window is not None:
            allowed = allowed & (places[:, :, None] - slots[:, None, :] < self.wiring.window)
        return allowed[:, None]


E4M3_MOST = 448.0


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat((-right, left), -1) * sin


def _mixed(held: torch.Tensor, neighbours: int) -> torch.Tensor:
    """The cache with its last slots taken from the sequence before, in a batch."""
    if not neighbours or len(held) == 1:
        return held
    return torch.cat((held[:, :, :-neighbours], held.roll(1, 0)[:, :, -neighbours:]), 2)

"""The forecasters of a fixed portfolio: their sizes and times, and their outputs beside other implementations.

Sizes and times: parameters of the trunk and of the map to the stocks, and the median processor time of a training step
(forward, backward, Adam) on one thread, on days of random windows.

    python benchmarks/forecasters.py
    python benchmarks/forecasters.py --stocks 30 --days 8 --only dlinear timesnet

With --oracle the outputs on the same weights, beside those of neuralforecast (DLinear, PatchTST, iTransformer,
TimesNet, Autoformer) and of xlstm (the sLSTM cell), as the largest difference. What is known to depart is made alike
first: PatchTST without its norms and residual scores, TimesNet a day at a time and without its normalisation, which
neuralforecast does not have inside. These packages bring many others, so they go in an environment of their own:

    python -m venv oracle
    oracle/bin/pip install torch==2.13.0
    oracle/bin/pip install 'torch<2.14' neuralforecast xlstm pydantic
    oracle/bin/pip install --no-deps -e .
    oracle/bin/python benchmarks/forecasters.py --oracle
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mimstocr.backbones import BACKBONES, Inputs

WINDOW, HORIZON, DAYS = 96, 2, 4
"""Sizes of the comparison. With an odd number of steps Autoformer's published correlation is one step short."""
QUIET = {"enable_progress_bar": False, "logger": False}
"""For the trainer that neuralforecast's models carry."""


def step_time(arguments: argparse.Namespace, name: str) -> tuple[int, int, float]:
    """Parameters of the trunk and of the map, and seconds of a step."""
    torch.manual_seed(0)
    module = BACKBONES.get(name)().build(Inputs(arguments.features, arguments.window, n_symbols=arguments.stocks))
    x = torch.randn(arguments.days, arguments.stocks, arguments.window, arguments.features)
    valid = torch.ones(arguments.days, arguments.stocks, dtype=torch.bool)
    optimizer = torch.optim.Adam(module.parameters())
    seconds = []
    for _ in range(arguments.repeat):
        started = time.process_time()
        optimizer.zero_grad()
        module(x, valid, {}).square().mean().backward()
        optimizer.step()
        seconds.append(time.process_time() - started)
    last = sum(parameter.numel() for parameter in module.get_submodule("out").parameters())
    return sum(parameter.numel() for parameter in module.parameters()) - last, last, statistics.median(seconds)


@torch.no_grad()
def give(theirs: Any, ours: Any) -> None:
    """Our weight and bias to a layer of theirs; 0 for a bias that we leave out."""
    theirs.weight.copy_(ours.weight.reshape(theirs.weight.shape))
    if theirs.bias is not None:
        theirs.bias.zero_() if ours.bias is None else theirs.bias.copy_(ours.bias.reshape(theirs.bias.shape))


def give_all(pairs: list[tuple[Any, Any]]) -> None:
    for theirs, ours in pairs:
        give(theirs, ours)


def windows(n_series: int) -> Tensor:
    return torch.randn(DAYS, WINDOW, n_series, generator=torch.Generator().manual_seed(1)).cumsum(1)


def asked(x: Tensor) -> dict[str, Any]:
    """A batch as neuralforecast's models take it."""
    return {"insample_y": x, "insample_mask": torch.ones_like(x), "futr_exog": None, "hist_exog": None}


def compare_dlinear() -> float:
    from neuralforecast.models import DLinear

    ours: Any = BACKBONES.get("dlinear")(horizon=HORIZON).forecaster(1, WINDOW).eval()
    theirs = DLinear(h=HORIZON, input_size=WINDOW, **QUIET).eval()
    give_all([(theirs.linear_season, ours.season), (theirs.linear_trend, ours.trend)])
    return largest(ours(windows(1)) - theirs(asked(windows(1))))


def compare_itransformer() -> float:
    from neuralforecast.models import iTransformer

    settings = BACKBONES.get("itransformer")(horizon=HORIZON)
    sizes = {"hidden_size": settings.hidden_size, "n_heads": settings.num_heads, "e_layers": settings.num_layers}
    theirs = iTransformer(
        h=HORIZON, input_size=WINDOW, n_series=5, d_ff=settings.feedforward_size, **sizes, **QUIET
    ).eval()
    outer: Any = settings.forecaster(5, WINDOW).eval()
    ours = outer.inner
    give_all([(theirs.enc_embedding.value_embedding, ours.embed), (theirs.encoder.norm, ours.norm)])
    give(theirs.projector, ours.head)
    for their, our in zip(theirs.encoder.attn_layers, ours.layers, strict=True):
        give_all(list(projections(their.attention, our.attention)))
        give_all([(their.conv1, our.feed_forward[0]), (their.conv2, our.feed_forward[3])])
        give_all([(their.norm1, our.first), (their.norm2, our.second)])
    return largest(outer(windows(5)) - theirs.forecast(windows(5)))


def projections(theirs: Any, ours: Any) -> Iterator[tuple[Any, Any]]:
    for name in ("query", "key", "value", "out"):
        yield getattr(theirs, f"{name}_projection"), getattr(ours, name)


def compare_patchtst() -> float:
    from neuralforecast.models.patchtst import PatchTST_backbone

    settings = BACKBONES.get("patchtst")(horizon=HORIZON)
    hidden, layers = settings.hidden_size, settings.num_layers
    theirs = PatchTST_backbone(
        5,
        1,
        WINDOW,
        HORIZON,
        settings.patch_size,
        settings.stride,
        n_layers=layers,
        hidden_size=hidden,
        n_heads=settings.num_heads,
        linear_hidden_size=settings.feedforward_size,
        res_attention=False,
        padding_patch="end",
        affine=False,
    ).eval()
    outer: Any = settings.forecaster(5, WINDOW).eval()
    ours = outer.inner
    give(theirs.backbone.W_P, ours.embed)
    with torch.no_grad():
        theirs.backbone.W_pos.copy_(ours.place)
        by_patch = ours.head.weight.unflatten(1, (-1, hidden))  # theirs has the channels first
        theirs.head.linear.weight.copy_(by_patch.transpose(1, 2).flatten(1))
        theirs.head.linear.bias.copy_(ours.head.bias)
    for their, our in zip(theirs.backbone.encoder.layers, ours.layers, strict=True):
        of = their.self_attn
        give_all([(of.W_Q, our.attention.query), (of.W_K, our.attention.key), (of.W_V, our.attention.value)])
        give_all(
            [(of.to_out[0], our.attention.out), (their.ff[0], our.feed_forward[0]), (their.ff[3], our.feed_forward[3])]
        )
        their.norm_attn, their.norm_ffn, our.first, our.second = (nn.Identity() for _ in range(4))
    return largest(outer(windows(5)) - theirs(windows(5).transpose(1, 2)).transpose(1, 2))


def compare_timesnet() -> float:
    from neuralforecast.models import TimesNet

    settings = BACKBONES.get("timesnet")(horizon=HORIZON)
    theirs = TimesNet(
        h=HORIZON,
        input_size=WINDOW,
        hidden_size=settings.hidden_size,
        conv_hidden_size=settings.feedforward_size,
        top_k=settings.top_k,
        num_kernels=settings.num_kernels,
        encoder_layers=settings.num_layers,
        **QUIET,
    ).eval()
    outer: Any = settings.forecaster(1, WINDOW).eval()
    ours = outer.inner
    give_all([(theirs.enc_embedding.value_embedding.tokenConv, ours.embed.conv), (theirs.layer_norm, ours.norm)])
    give_all([(theirs.predict_linear, ours.extend), (theirs.projection, ours.head)])
    with torch.no_grad():
        for their, our in zip(theirs.model, ours.blocks, strict=True):
            for place in (0, 2):
                for convolution, kernel in zip(their.conv[place].kernels, our.convolve[place].kernels, strict=True):
                    convolution.weight.copy_(kernel)
                    convolution.bias.copy_(our.convolve[place].bias)
    alone = [theirs(asked(day[None]))[:, -HORIZON:] for day in windows(1)]  # it picks the periods of a whole batch
    return largest(ours(windows(1)) - torch.cat(alone))


def compare_autoformer() -> float:
    from neuralforecast.models import Autoformer

    settings = BACKBONES.get("autoformer")(horizon=HORIZON)
    theirs = Autoformer(
        h=HORIZON,
        input_size=WINDOW,
        hidden_size=settings.hidden_size,
        conv_hidden_size=settings.feedforward_size,
        factor=settings.factor,
        n_head=4,
        encoder_layers=settings.encoder_layers,
        decoder_layers=settings.decoder_layers,
        MovingAvg_window=settings.kernel_size,
        activation="gelu",
        **QUIET,
    ).eval()
    ours: Any = settings.forecaster(1, WINDOW).eval()
    give(theirs.enc_embedding.value_embedding.tokenConv, ours.embed_window.conv)
    give(theirs.dec_embedding.value_embedding.tokenConv, ours.embed_season.conv)
    *encoder, norm = ours.encoder
    give_all([(theirs.encoder.norm.layernorm, norm.norm), (theirs.decoder.norm.layernorm, ours.norm.norm)])
    give(theirs.decoder.projection, ours.head)
    for their, our in zip(theirs.encoder.attn_layers, encoder, strict=True):
        give_all([*projections(their.attention, our.own), *feeds(their, our)])
    for their, our in zip(theirs.decoder.layers, ours.decoder, strict=True):
        give_all([*projections(their.self_attention, our.own), *projections(their.cross_attention, our.cross)])
        give_all([*feeds(their, our), (their.projection, our.project.conv)])
    return largest(ours(windows(1)) - theirs(asked(windows(1))))


def feeds(theirs: Any, ours: Any) -> list[tuple[Any, Any]]:
    return [(theirs.conv1, ours.feed_forward[0]), (theirs.conv2, ours.feed_forward[3])]


def compare_slstm() -> float:
    from xlstm.blocks.slstm.src.vanilla.slstm import slstm_forward_pointwise

    from mimstocr.backbones.p_slstm import SLstmCell

    heads, size = 2, 4
    ours = SLstmCell(heads * size, heads, depth=0.0)
    with torch.no_grad():
        ours.recurrent += 0.5 * torch.randn_like(ours.recurrent)
    inputs = 2 * torch.randn(12, 5, heads, 4, size)
    no_input_gate = torch.cat([torch.zeros(1, heads, size), ours.bias.detach()]).flatten()
    states, told = torch.zeros(4, 5, heads * size), []
    for given in inputs:
        back = torch.einsum("mhi,hio->mho", states[0].unflatten(1, (heads, size)), ours.recurrent)
        flat = [part.transpose(1, 2).flatten(1) for part in (given, back.unflatten(2, (4, size)))]  # gates first
        states, _ = slstm_forward_pointwise(*flat, no_input_gate, states, {})
        told.append(states[0].unflatten(1, (heads, size)))
    return largest(ours(inputs) - torch.stack(told))


def largest(difference: Tensor) -> float:
    return float(difference.detach().abs().max())


COMPARED: dict[str, Callable[[], float]] = {
    "dlinear": compare_dlinear,
    "itransformer": compare_itransformer,
    "patchtst": compare_patchtst,
    "timesnet": compare_timesnet,
    "autoformer": compare_autoformer,
    "p_slstm": compare_slstm,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=32)
    parser.add_argument("--stocks", type=int, default=50)
    parser.add_argument("--window", type=int, default=96)
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="BACKBONE")
    parser.add_argument("--oracle", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = arguments.only or [name for name in BACKBONES.names() if BACKBONES.get(name).fixed_portfolio]
    if arguments.oracle:
        for name in (name for name in names if name in COMPARED):
            torch.manual_seed(0)
            print(f"{name:14} largest difference {COMPARED[name]():.1e}", flush=True)
        return
    print(f"days {arguments.days}, stocks {arguments.stocks}, window {arguments.window}, features {arguments.features}")
    print(f"{'':14}{'trunk':>10}{'map':>10}{'s a step':>10}")
    for name in names:
        trunk, last, seconds = step_time(arguments, name)
        print(f"{name:14}{trunk:10}{last:10}{seconds:10.3f}", flush=True)


if __name__ == "__main__":
    main()

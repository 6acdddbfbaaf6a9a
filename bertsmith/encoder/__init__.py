"""The whole encoder. BERT, ALBERT, ModernBERT, XLNet are values of its settings, not classes."""

from collections.abc import Callable

from torch import Tensor, nn

from bertsmith import fused
from bertsmith.embedding import Embed
from bertsmith.layout import Layout
from bertsmith.linear import Changeable, Dropout
from bertsmith.norm import Norm
from bertsmith.position import Position
from bertsmith.spec import Slot, Spec

Source = Callable[[int, Tensor], tuple[Tensor, Layout]]


class Encoder(Changeable):
    """(token_BT, layout) -> x_BTD, states for the layout it was given, whatever it inserted, dropped or cut inside.

    Public names, which patterns may use: embedding, layers.N, norm.

    Attributes:
        dim: width D; heads: default number of heads; embedding.table: the token table, of any width.
    """

    paper = ""
    embedding: Embed
    layers: nn.ModuleList
    norm: Norm
    drop: Dropout

    def forward(self, token_BT: Tensor, layout: Layout) -> Tensor:
        return self.states(token_BT, layout)[-1]

    def states(self, token_BT: Tensor, layout: Layout) -> list[Tensor]:
        """[x_BTD after the embedding, after each layer ...]; the last has the final norm."""
        raise NotImplementedError

    def at(self, token_BT: Tensor, layout: Layout, place_N: Tensor) -> Tensor:
        """h_ND: the states at places counted along the rows, int64 in [0, B * T), for those who read no others."""
        return self(token_BT, layout).flatten(0, 1).index_select(0, place_N)

    def adopt(self, inner: Spec) -> None:
        """Become the stack that `inner` describes, part by part, so that tensors keep its names: for kinds around a stack.

        Raises ValueError if it is no stack.
        """
        if inner.slot is not encoder or inner.kind != "stack":
            raise ValueError(f"this encoder goes around an encoder/stack, not around {inner.slot.name}/{inner.kind}")
        stack = inner.build()
        self.dim, self.heads, self.depth, self.init = stack.dim, stack.heads, stack.depth, stack.init
        self.embedding, self.layers, self.norm, self.drop = stack.embedding, stack.layers, stack.norm, stack.drop

    def prepare(self, token_BT: Tensor, layout: Layout, reach: int = 0) -> Layout:
        """The layout with a scratch for one pass over these tokens, and in it what positions make once.

        `reach`: how far apart tokens may lie, where that is farther than there are places in a row.
        """
        layout = layout.fresh()
        layout.scratch["token_BT"] = token_BT
        if reach:
            layout.scratch["reach"] = reach
        for module in self.modules():
            if isinstance(module, Position):
                module.prepare(layout)
        return layout

    def embed(self, token_BT: Tensor, layout: Layout) -> Tensor:
        """x_BTD before the first layer."""
        return fused.embedded(self.embedding, token_BT, layout)

    def run(
        self, x_BTD: Tensor, layout: Layout, source: Source | None = None, place_N: Tensor | None = None
    ) -> list[Tensor]:
        """[x_BTD, that after each layer ...], the last normalised, for a layout from `prepare`.

        Args:
            source: `source(i, x)` is what layer i reads beside or instead of its input x.
            place_N: places in B * T; the last states elsewhere mean nothing.
        """
        states = [x_BTD]
        for i, layer in enumerate(self.layers):
            reads = () if source is None else (source(i, states[-1]),)
            last = place_N if i + 1 == len(self.layers) else None
            states.append(fused.through(layer, states[-1], layout, *reads, place_N=last))
        states[-1] = self.drop(self.norm(states[-1], layout))
        return states


encoder = Slot(__name__, Encoder)

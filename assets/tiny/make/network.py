"""CLIP in OpenAI's layout and under OpenAI's tensor names, with a token embedding of only the used rows.

Pre-norm blocks, quick GELU, heads of 64, class token, ln_pre and ln_post, causal text, pooled at
the end token.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

IMAGE, PATCH = 96, 12
SIDE = IMAGE // PATCH
VISION_WIDTH, VISION_LAYERS = 192, 4
TEXT_WIDTH, TEXT_LAYERS = 128, 3
EMBED = 128
CONTEXT, LONG_CONTEXT, KEEP = 77, 248, 20


class Block(nn.Module):
    """A residual attention block."""

    def __init__(self, width, layers, causal):
        super().__init__()
        self.heads, self.causal = width // 64, causal
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.Module()
        self.attn.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.attn.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.attn.out_proj = nn.Linear(width, width)
        self.mlp = nn.Module()
        self.mlp.c_fc, self.mlp.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        residual = width**-0.5 * (2 * layers) ** -0.5
        nn.init.normal_(self.attn.out_proj.weight, std=residual)
        nn.init.normal_(self.mlp.c_fc.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(self.mlp.c_proj.weight, std=residual)
        for linear in (self.attn.out_proj, self.mlp.c_fc, self.mlp.c_proj):
            nn.init.zeros_(linear.bias)

    def forward(self, x):  # [batch, tokens, width]
        batch, tokens, width = x.shape
        qkv = F.linear(self.ln_1(x), self.attn.in_proj_weight, self.attn.in_proj_bias)
        q, k, v = qkv.view(batch, tokens, 3, self.heads, 64).permute(2, 0, 3, 1, 4)
        # For so few tokens PyTorch's fused attention is several times slower, especially backward.
        scores = (q * 0.125) @ k.transpose(-2, -1)  # [batch, heads, tokens, tokens]
        if self.causal:
            scores = scores + scores.new_full((tokens, tokens), -1e4).triu(1)
        mixed = scores.softmax(-1).to(v.dtype) @ v
        x = x + self.attn.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))
        hidden = self.mlp.c_fc(self.ln_2(x))
        return x + self.mlp.c_proj(hidden * torch.sigmoid(1.702 * hidden))


class Transformer(nn.Module):
    """A stack of blocks."""

    def __init__(self, width, layers, causal):
        super().__init__()
        self.resblocks = nn.Sequential(*(Block(width, layers, causal) for _ in range(layers)))

    def forward(self, x):
        return self.resblocks(x)


class Vision(nn.Module):
    """The image tower, which can process a subset of the patches."""

    def __init__(self):
        super().__init__()
        scale = VISION_WIDTH**-0.5
        self.conv1 = nn.Module()
        self.conv1.weight = nn.Parameter(torch.randn(VISION_WIDTH, 3, PATCH, PATCH) * 0.02)
        self.class_embedding = nn.Parameter(scale * torch.randn(VISION_WIDTH))
        self.positional_embedding = nn.Parameter(scale * torch.randn(SIDE**2 + 1, VISION_WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(VISION_WIDTH), nn.LayerNorm(VISION_WIDTH)
        self.transformer = Transformer(VISION_WIDTH, VISION_LAYERS, causal=False)
        self.proj = nn.Parameter(scale * torch.randn(VISION_WIDTH, EMBED))

    def forward(self, patches, places, every=False):
        """patches [batch, kept, 3 * PATCH²] (channel first), places [batch, kept] -> [batch, EMBED],
        or an embedding of each token: [batch, 1 + kept, EMBED], the image's first."""
        x = F.linear(patches, self.conv1.weight.flatten(1))
        x = x + self.positional_embedding[1 + places]
        first = (self.class_embedding + self.positional_embedding[0]).to(x.dtype)
        x = torch.cat([first.expand(len(x), 1, -1), x], 1)  # [batch, 1 + kept, width]
        x = self.transformer(self.ln_pre(x))
        return self.ln_post(x if every else x[:, 0]) @ self.proj


class Clip(nn.Module):
    """Both towers. `vocabulary` holds the ids of the tokens with a row; all others share row 0."""

    def __init__(self, vocabulary, context=CONTEXT):
        super().__init__()
        rows = torch.zeros(49408, dtype=torch.long)
        rows[vocabulary] = torch.arange(1, len(vocabulary) + 1)
        self.register_buffer("rows", rows, persistent=False)
        self.visual = Vision()
        self.token_embedding = nn.Embedding(len(vocabulary) + 1, TEXT_WIDTH, padding_idx=0)
        self.positional_embedding = nn.Parameter(torch.randn(context, TEXT_WIDTH) * 0.01)
        self.transformer = Transformer(TEXT_WIDTH, TEXT_LAYERS, causal=True)
        self.ln_final = nn.LayerNorm(TEXT_WIDTH)
        self.text_projection = nn.Parameter(torch.randn(TEXT_WIDTH, EMBED) * TEXT_WIDTH**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        with torch.no_grad():
            self.token_embedding.weight[0] = 0

    def image(self, patches, places):
        """Unit image embeddings [batch, EMBED] in f32."""
        return F.normalize(self.visual(patches, places).float(), dim=-1)

    def image_and_patches(self, patches, places):
        """Unit image embeddings [batch, EMBED] and the patches' features [batch, kept, EMBED] in
        f32."""
        every = self.visual(patches, places, every=True).float()
        return F.normalize(every[:, 0], dim=-1), every[:, 1:]

    def text(self, token_ids):
        """Unit text embeddings [batch, EMBED] in f32 of token ids [batch, length <= context]."""
        x = self.token_embedding(self.rows[token_ids]) + self.positional_embedding[: token_ids.shape[1]]
        x = self.transformer(x)
        end = token_ids.argmax(-1)  # the end token has the largest id
        x = self.ln_final(x[torch.arange(len(x)), end]) @ self.text_projection
        return F.normalize(x.float(), dim=-1)


def patches(pixels):
    """[batch, IMAGE, IMAGE, 3] -> [batch, SIDE², 3 * PATCH²], each patch channel first."""
    batch = pixels.shape[0]
    grid = pixels.reshape(batch, SIDE, PATCH, SIDE, PATCH, 3)
    if isinstance(grid, torch.Tensor):
        return grid.permute(0, 1, 3, 5, 2, 4).reshape(batch, SIDE**2, -1)
    return grid.transpose(0, 1, 3, 5, 2, 4).reshape(batch, SIDE**2, -1)


MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).repeat_interleave(PATCH**2)
DEVIATION = torch.tensor([0.26862954, 0.26130258, 0.27577711]).repeat_interleave(PATCH**2)


def normalised(raw):
    """CLIP's normalisation of byte patches."""
    return (raw.float() / 255 - MEAN) / DEVIATION


def stretched(model, vocabulary):
    """Long-CLIP's stretch of the text positions: the first KEEP rows stay, the others are stretched by 4.

    Interpolated between neighbours with weights 1, 3/4, 1/2, 1/4; the last position is extrapolated.
    """
    long = Clip(vocabulary, LONG_CONTEXT)
    state = dict(model.state_dict())
    old = state["positional_embedding"]
    new = torch.zeros(LONG_CONTEXT, TEXT_WIDTH)
    new[:KEEP] = old[:KEEP]
    for i in range(CONTEXT - KEEP):
        here = old[KEEP + i]
        step = old[KEEP + i + 1] - here if KEEP + i + 1 < CONTEXT else here - old[KEEP + i - 1]
        for quarter in range(4):
            new[KEEP + 4 * i + quarter] = here + step * quarter / 4
    state["positional_embedding"] = new
    long.load_state_dict(state)
    return long

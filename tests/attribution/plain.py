"""Attribution in plain steps: one unpadded prompt, one layer at a time, on the Transformers model itself."""

import math

import torch

from relation_neurons.prompts.tokenization import encode, encode_answers

PARTS = {
    "post": ("mlp.down_proj", "input"),
    "gate": ("mlp.gate_proj", "output"),
    "up": ("mlp.up_proj", "output"),
    "down": ("mlp.down_proj", "output"),
    "q": ("self_attn.q_proj", "output"),
    "k": ("self_attn.k_proj", "output"),
    "v": ("self_attn.v_proj", "output"),
    "o": ("self_attn.o_proj", "output"),
}
"""Where a site is in a Transformers Llama."""


def target_of(model, prompt, logits, name):
    """A target from the logits at all positions of a prompt with its object behind it."""
    (one,) = encode(model, [prompt])
    end = len(one.ids) - 1
    if name == "margin":
        firsts = {ids[0] for ids in encode_answers(model, prompt, prompt.candidates)} - {one.object_ids[0]}
        return logits[end, one.object_ids[0]] - torch.logsumexp(logits[end, sorted(firsts)], dim=0)
    steps = one.object_ids[:1] if name == "first_token" else one.object_ids
    logprobs = logits.log_softmax(dim=1)
    return sum(logprobs[end + step, token] for step, token in enumerate(steps))


def tokens_of(model, prompt):
    (one,) = encode(model, [prompt])
    return torch.tensor([[*one.ids, *one.object_ids]])


def plain_gradient(model, llama, prompt, site, layer, target):
    """Activation times gradient, summed over tokens."""
    part, side = PARTS[site]
    module, kept = llama.model.layers[layer].get_submodule(part), []

    def keep(_, inputs, output):
        kept.append(inputs[0] if side == "input" else output)

    handle = module.register_forward_hook(keep)
    try:
        logits = llama(tokens_of(model, prompt)).logits[0]
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(target_of(model, prompt, logits, target), kept)
    return (gradient * kept[0])[0].sum(dim=0).detach()


def plain_target(model, llama, prompt, name="logprob"):
    with torch.no_grad():
        return float(target_of(model, prompt, llama(tokens_of(model, prompt)).logits[0], name))


def plain_relevance(model, llama, prompt):
    """Activation times the derivative by the rules of relevance, for every site but q and k, by site and layer."""
    config, found = llama.config, {}
    stream = llama.model.embed_tokens(tokens_of(model, prompt)[0]).detach().requires_grad_()
    for layer, block in enumerate(llama.model.layers):
        normed = norm_by_rule(stream, block.input_layernorm)
        found["v", layer] = block.self_attn.v_proj(normed)
        found["o", layer] = attend_by_rule(block.self_attn, normed, found["v", layer], config)
        stream = stream + found["o", layer]
        normed = norm_by_rule(stream, block.post_attention_layernorm)
        gate, up = block.mlp.gate_proj(normed), block.mlp.up_proj(normed)
        act = gate * torch.sigmoid(gate).detach()  # act(x) / x of SiLU is the sigmoid
        post = (act * up.detach() + act.detach() * up) / 2  # the product, each of whose factors gets half
        found["gate", layer], found["up", layer], found["post", layer] = gate, up, post
        found["down", layer] = block.mlp.down_proj(post)
        stream = stream + found["down", layer]
    logits = llama.lm_head(norm_by_rule(stream, llama.model.norm))
    gradients = torch.autograd.grad(target_of(model, prompt, logits, "logprob"), list(found.values()))
    pairs = zip(found.items(), gradients, strict=True)
    return logits.detach(), {key: (value * gradient).sum(dim=0).detach() for (key, value), gradient in pairs}


def norm_by_rule(x, norm):
    scale = (x.square().mean(dim=-1, keepdim=True) + norm.variance_epsilon).sqrt()
    return x / scale.detach() * norm.weight


def attend_by_rule(attention, normed, v, config):
    n, size = len(normed), config.hidden_size // config.num_attention_heads
    q, k = (rotate(part(normed).view(n, -1, size), config) for part in (attention.q_proj, attention.k_proj))
    group = config.num_attention_heads // config.num_key_value_heads
    heads = []
    for head in range(config.num_attention_heads):
        scores = q[:, head] @ k[:, head // group].T / math.sqrt(size)
        pattern = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf).softmax(dim=1).detach()
        heads.append(pattern @ v.view(n, -1, size)[:, head // group])
    return attention.o_proj(torch.cat(heads, dim=1))


def rotate(x, config):
    n, half = len(x), x.shape[-1] // 2
    base = config.rope_parameters["rope_theta"]
    angles = torch.arange(n)[:, None] * base ** (-torch.arange(half) / half)[None]
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def plain_path(model, llama, prompt, layer, n_points=80):
    """Integrated gradients at `post`, by the midpoint rule in the fourth root of the factor."""
    module, kept = llama.model.layers[layer].mlp.down_proj, []

    def scale(_, inputs):
        kept[:] = [inputs[0].detach(), (inputs[0].detach() * factor).requires_grad_()]
        return (kept[1],)

    total, handle = 0, module.register_forward_pre_hook(scale)
    try:
        for point in (torch.arange(n_points) + 0.5) / n_points:
            factor = point**4
            logits = llama(tokens_of(model, prompt)).logits[0]
            (gradient,) = torch.autograd.grad(target_of(model, prompt, logits, "logprob"), [kept[1]])
            total = total + 4 * point**3 / n_points * (gradient * kept[0])[0].sum(dim=0)
    finally:
        handle.remove()
    return total

#!/usr/bin/env python3
"""The error of each precision on difficult weights: networks with outlier channels.

  outliers.py FOLDER --ours target/release/examples/encode

Trained CLIP has a few channels far larger than the rest, and rounding to 8 bits with one scale per row
crowds out everything else; ordinary random weights have none and flatter every
precision. Here they are added, each kind alone and all together, to a network with the dimensions of
ViT-B/16. Our precisions and onnxruntime's dynamic int8 run on the same weights and inputs; the reference
is f32 on PyTorch. Prints, for both towers, the minimum cosine to the reference over the inputs and how
often the best of 1000 random labels is the same.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from onnxruntime import InferenceSession
from safetensors.numpy import load_file, save_file
from transformers import CLIPConfig, CLIPModel

import material

LAYERS = 12
TOKENS = 10
OURS = ["f32", "bf16", "int8", "int8-fast"]
SCENARIOS = ["none", "gain-half", "gain-comp", "resid", "hidden", "vout", "all"]
#: How strongly layers respond. Attention logits have a standard deviation of about `peak`;
#: attention and MLP add about `share` of the standard deviation of the residual stream.
NETWORKS = {"sensitive": dict(peak=2.7, share=0.5), "calm": dict(peak=1.0, share=0.1)}


def config():
    return CLIPConfig(
        vision_config=dict(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=LAYERS, num_attention_heads=12,
            patch_size=16, image_size=material.IMAGE_SIZE, projection_dim=512,
        ),
        text_config=dict(
            hidden_size=512, intermediate_size=2048, num_hidden_layers=LAYERS, num_attention_heads=8,
            max_position_embeddings=77, vocab_size=49408, projection_dim=512,
            bos_token_id=material.START_OF_TEXT, eos_token_id=material.END_OF_TEXT,
            pad_token_id=material.END_OF_TEXT,
        ),
        projection_dim=512,
    )


def network(draw, peak, share):
    """A CLIPModel with heavy-tailed weights and uneven gains."""
    model = CLIPModel(config()).eval()

    def heavy(parameter, deviation):
        # Student's t with 4 degrees of freedom has variance 2.
        values = draw.standard_t(4, tuple(parameter.shape)) * (deviation / 2**0.5)
        parameter.data = torch.from_numpy(values.astype(np.float32))

    for tower in (model.vision_model, model.text_model):
        for layer in tower.encoder.layers:
            attention, mlp = layer.self_attn, layer.mlp
            width = attention.q_proj.in_features
            for projection in (attention.q_proj, attention.k_proj):
                heavy(projection.weight, peak**0.5 / width**0.5)
            heavy(attention.v_proj.weight, width**-0.5)
            heavy(attention.out_proj.weight, 2 * share / width**0.5)
            heavy(mlp.fc1.weight, width**-0.5)
            heavy(mlp.fc2.weight, 2 * share / (4 * width) ** 0.5)
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj,
                           mlp.fc1, mlp.fc2):
                heavy(linear.bias, 0.02)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            size = module.normalized_shape
            module.weight.data = torch.from_numpy(np.exp(draw.normal(0, 0.4, size)).astype(np.float32))
            heavy(module.bias, 0.1)
    vision, text = model.vision_model.embeddings, model.text_model.embeddings
    heavy(vision.patch_embedding.weight, 768**-0.5)
    heavy(vision.class_embedding, 0.5)
    heavy(vision.position_embedding.weight, 0.3)
    heavy(text.token_embedding.weight, 1.0)
    heavy(text.position_embedding.weight, 0.3)
    heavy(model.visual_projection.weight, 768**-0.5)
    heavy(model.text_projection.weight, 512**-0.5)
    return model


def disturb(model, scenario, draw):
    """Adds the outliers of `scenario`, each 20 to 60 times the rest."""
    parts = {"all": ["gain-half", "resid", "hidden", "vout"], "none": []}.get(scenario, [scenario])

    def some(size, count):
        places = torch.from_numpy(draw.choice(size, count, replace=False))
        return places, torch.from_numpy(draw.uniform(20, 60, count).astype(np.float32))

    with torch.no_grad():
        for tower in (model.vision_model, model.text_model):
            width = tower.encoder.layers[0].self_attn.q_proj.in_features
            gains, residual = some(width, 6), some(width, 4)
            for number, layer in enumerate(tower.encoder.layers):
                attention, mlp = layer.self_attn, layer.mlp
                for part in parts:
                    if part in ("gain-half", "gain-comp"):
                        places, factors = gains
                        shrink = factors.sqrt() if part == "gain-half" else factors
                        for norm, consumers in (
                            (layer.layer_norm1, (attention.q_proj, attention.k_proj, attention.v_proj)),
                            (layer.layer_norm2, (mlp.fc1,)),
                        ):
                            norm.weight[places] *= factors
                            for consumer in consumers:
                                consumer.weight[:, places] /= shrink
                    elif part == "resid" and 1 <= number <= 3:
                        places, factors = residual
                        mlp.fc2.weight[places] *= factors[:, None]
                    elif part == "hidden":
                        places, factors = some(4 * width, 8)
                        mlp.fc1.weight[places] *= factors[:, None]
                    elif part == "vout":
                        places, factors = some(width, 4)
                        attention.v_proj.weight[places] *= factors[:, None]
                        # Unscaled, these four dominate everything, and every precision is noise.
                        attention.out_proj.weight[:, places] /= factors.sqrt()


def inputs(draw, images, texts):
    """Smooth pixels with grain, as in photographs, and token lists of one length."""
    size = material.IMAGE_SIZE
    pixels = np.zeros((images, 3, size, size), np.float32)
    for side in (4, 14, 56):
        coarse = torch.from_numpy(draw.standard_normal((images, 3, side, side)).astype(np.float32))
        pixels += torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").numpy()
    pixels = 0.7 * pixels + 0.1 * draw.standard_normal(pixels.shape).astype(np.float32)
    ids = draw.integers(300, 49000, (texts, TOKENS))
    ids[:, 0], ids[:, -1] = material.START_OF_TEXT, material.END_OF_TEXT
    return pixels.astype(np.float32), ids.astype(np.int64)


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def reference(model, pixels, ids):
    with torch.inference_mode():
        images = [model.visual_projection(model.vision_model(pixel_values=part).pooler_output)
                  for part in torch.from_numpy(pixels).split(8)]
        texts = [model.text_projection(model.text_model(input_ids=part).pooler_output)
                 for part in torch.from_numpy(ids).split(100)]
    return unit(torch.cat(images)), unit(torch.cat(texts))


def onnxruntime_int8(folder, pixels, ids):
    found = []
    for name, values in (("vision", pixels), ("text", ids)):
        session = InferenceSession(folder / f"{name}.int8.onnx", providers=["CPUExecutionProvider"])
        # One by one: so that activation scales are specific to this input.
        found.append(unit(np.concatenate([session.run(None, {"x": value[None]})[0] for value in values])))
    return found


def ours(program, folder, pixels, ids):
    save_file({"pixels": pixels, "tokens": ids}, folder / "inputs.safetensors")
    outputs = folder / "outputs.safetensors"
    subprocess.run([program, folder, folder / "inputs.safetensors", outputs, *OURS], check=True)
    found = load_file(outputs)
    return {name: (unit(found[f"image.{name}"]), unit(found[f"text.{name}"])) for name in OURS}


def losses(found, exact, shown):
    """Minimum cosines of both towers, and the share of images with the same best label."""
    cosines = [float((a * b).sum(1).min()) for a, b in zip(found, exact)]
    centred = lambda rows: rows - exact[1].mean(0)
    best = lambda images, texts: (images @ centred(texts).T).argmax(1)
    same = float((best(*found) == best(*exact)).mean())
    row = dict(image=cosines[0], text=cosines[1], same_label=same)
    print(f"{shown:<40} image {row['image']:.5f}  text {row['text']:.5f}  same label {same:.3f}", flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="for checkpoints and graphs, overwritten by each case")
    parser.add_argument("--ours", required=True, type=Path, help="the example encode")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--labels", type=int, default=1000)
    parser.add_argument("--without-onnxruntime", action="store_true")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for kind in options.networks.split(","):
        for scenario in options.scenarios.split(","):
            draw = np.random.default_rng(20)
            model = network(draw, **NETWORKS[kind])
            disturb(model, scenario, draw)
            pixels, ids = inputs(draw, options.images, options.labels)
            exact = reference(model, pixels, ids)
            model.save_pretrained(options.folder)
            found = ours(options.ours.resolve(), options.folder, pixels, ids)
            if not options.without_onnxruntime:
                material.export(options.folder)
                found["onnxruntime-int8"] = onnxruntime_int8(options.folder, pixels, ids)
            for name, pair in found.items():
                row = losses(pair, exact, f"{kind} {scenario} {name}")
                rows.append(dict(network=kind, scenario=scenario, program=name, **row))
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1) + "\n")
    for name in dict.fromkeys(row["program"] for row in rows):
        mine = [row for row in rows if row["program"] == name]
        least = {key: min(row[key] for row in mine) for key in ("image", "text", "same_label")}
        print(f"{name:<20} least: " + "  ".join(f"{key} {value:.5f}" for key, value in least.items()))


if __name__ == "__main__":
    sys.exit(main())

"""Trains the base model (77 tokens) and tunes the stretched one (248 tokens).

    train.py base WORK [--steps N N] [--share X]
    train.py tune WORK [--steps N] [--share X] [--recipe mixed] [--seed 0] [--name tuned]

Every two minutes the full state is saved to WORK/NAME.state.pt, from which the same command resumes.
The finished weights (their running average) are WORK/NAME.pt, the log is WORK/NAME.jsonl.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch

import batches
import captions
import muon
import network
import recipes
import things
import tokenizer

AVERAGE = 0.998


class Trainer:
    """The model, its running average and the optimisers."""

    def __init__(self, model, vocabulary, schedule, rate):
        self.model, self.vocabulary, self.schedule, self.rate = model, vocabulary, schedule, rate
        self.average = {k: v.clone() for k, v in model.state_dict().items()}
        matrices, decayed, plain = muon.split(model)
        self.muon = muon.Muon(matrices)
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-8, foreach=True)
        self.step, self.samples, self.seconds = 0, 0, 0.0

    def update(self, loss):
        """One optimiser step."""
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise SystemExit(f"step {self.step}: the gradient is not finite")
        rate = self.schedule.factor(self.step) * self.rate
        for group in self.adam.param_groups:
            group["lr"] = rate / 2
        self.adam.step()
        self.muon.step(rate)
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))
            weight = 1 - min(AVERAGE, (1 + self.step) / (10 + self.step))
            for name, value in self.model.state_dict().items():
                self.average[name].lerp_(value, weight)
        self.step += 1

    def save(self, path):
        """Saves the full state atomically."""
        state = {
            "model": self.model.state_dict(), "average": self.average, "adam": self.adam.state_dict(),
            "muon": self.muon.state, "step": self.step, "samples": self.samples,
            "seconds": self.seconds, "vocabulary": self.vocabulary,
        }  # fmt: skip
        write(state, path)

    def load(self, path):
        """Resumes from a state; batches depend only on the step, so nothing else is needed."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.adam.load_state_dict(state["adam"])
        self.average, self.muon.state = state["average"], state["muon"]
        self.step, self.samples, self.seconds = state["step"], state["samples"], state["seconds"]


def write(state, path):
    """Writes a file that is either complete or absent."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.rename(path)


def loss_of(model, batch, smoothing):
    """(loss, its cell part, number of images); a batch's parts form one batch for the loss."""
    images, texts, extra, cells = [], [], [], []
    scale = model.logit_scale.exp()
    with torch.autocast("cpu", torch.bfloat16):
        for part in batch.parts:
            raw, places = network.normalised(torch.from_numpy(part.patches)), torch.from_numpy(part.places)
            if part.cells is None:
                images.append(model.image(raw, places))
            else:
                image, patches = model.image_and_patches(raw, places)
                images.append(image)
                names, which, of_patch = part.cells
                named = model.text(recipes.trimmed(names))
                cells.append((patches, places, named, torch.from_numpy(which), torch.from_numpy(of_patch)))
            said = model.text(recipes.trimmed(part.ids))
            texts.append(said[: len(raw)])
            extra.append(said[len(raw) :])
        short = None if batch.short is None else model.text(recipes.trimmed(batch.short))
    images, texts, extra = torch.cat(images), torch.cat(texts), torch.cat(extra)
    loss = recipes.contrast(images, texts, scale, smoothing, extra)
    if short is not None:
        loss = loss + recipes.short_loss(short, images, batch.rank, scale, smoothing)
    named = torch.zeros(())
    for cell in cells:
        named = named + recipes.cell_loss(*cell, scale.detach()) / len(cells)
    return loss + recipes.CELL_WEIGHT * named, named.item(), len(images)


def train(trainer, work, recipe, seed, name, core=None, minutes=2.0):
    """Runs the trainer to its last step."""
    state, log = work / f"{name}.state.pt", work / f"{name}.jsonl"
    if state.exists():
        trainer.load(state)
    saved = shown = time.monotonic()
    total, total_named, last = 0.0, 0.0, trainer.schedule.ends[-1]
    for batch in batches.stream(work, recipe, seed, trainer.step, last, core):
        began = time.monotonic()
        loss, named, count = loss_of(trainer.model, batch, recipe.smoothing)
        trainer.update(loss)
        trainer.samples += count
        total, total_named = total + loss.item(), total_named + named
        now = time.monotonic()
        trainer.seconds += now - began
        if trainer.step % 20 == 0:
            row = {
                "step": trainer.step, "samples": trainer.samples, "loss": round(total / 20, 4),
                "cells": round(total_named / 20, 4),
                "scale": round(trainer.model.logit_scale.exp().item(), 2),
                "step_seconds": round((now - shown) / 20, 3), "seconds": round(trainer.seconds, 1),
            }  # fmt: skip
            with log.open("a") as out:
                print(json.dumps(row), file=out)
            print(row, flush=True)
            total, total_named, shown = 0.0, 0.0, now
        if now - saved > 60 * minutes:
            trainer.save(state)
            saved = now
        if trainer.step % (last // 20) == 0:
            finish(trainer, work / f"{name}.{trainer.step:06}.pt")
    trainer.save(state)
    finish(trainer, work / f"{name}.pt")


def finish(trainer, path):
    """The averaged weights, for evaluation."""
    write({"model": trainer.average, "vocabulary": trainer.vocabulary, "step": trainer.step,
           "samples": trainer.samples, "seconds": trainer.seconds}, path)  # fmt: skip


def load(path):
    """A finished model and its vocabulary."""
    state = torch.load(path, weights_only=True)
    context = len(state["model"]["positional_embedding"])
    model = network.Clip(state["vocabulary"], context)
    model.load_state_dict(state["model"])
    return model.eval(), state


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("phase", choices=("base", "tune"))
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, nargs="+", help="of each cycle of the learning rate")
    parser.add_argument("--share", type=float, default=1.0, help="of the steps, to try the program")
    parser.add_argument("--recipe", default="mixed", choices=sorted(recipes.TUNE))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name")
    parser.add_argument("--base", default="base.pt", help="the checkpoint that is stretched and tuned")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--core", type=int, help="the core for the process that draws")
    args = parser.parse_args()
    usual = recipes.BASE_STEPS if args.phase == "base" else [recipes.TUNE_STEPS]
    steps = [max(20, round(args.share * count)) for count in args.steps or usual]
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.phase == "base":
        vocabulary = captions.vocabulary(things.load(args.work), tokenizer.encode)
        schedule = recipes.Schedule(*steps)
        trainer = Trainer(network.Clip(vocabulary), vocabulary, schedule, recipes.BASE_RATE)
        recipe = recipes.Base(schedule)
    else:
        base, state = load(args.work / args.base)
        vocabulary = state["vocabulary"]
        schedule = recipes.Schedule(*steps)
        model = network.stretched(base, vocabulary)
        trainer = Trainer(model, vocabulary, schedule, recipes.TUNE_RATE)
        recipe = recipes.TUNE[args.recipe](schedule)
    train(trainer, args.work, recipe, args.seed, args.name or args.phase, args.core)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""weights.py DOCS QUERIES RUN: how much of the recall is due to weights chosen on the same queries.

RUN comes from `culprit knowledge match --queries QUERIES --limit 1000 --scores`: every candidate with its three scores. The fusion of
graph/fuse.h is done here again for a grid of weights; queries are halved at random (fixed seed) by target, so that no failure mode is in both
halves, weights are chosen on one half and tried on the other, ten times. Prints recall@1/@3 by track: of the weights in force, and held out."""
import itertools
import json
import math
import random
import statistics
import sys

IN_FORCE = (1.0, 1.0, 1.0)  # daemon/recall/recall.cpp, kDocumentWeights
GRID = [(1.0, vector, link) for vector, link in itertools.product((0.5, 0.7, 1.0, 1.4, 2.0), (0.0, 0.4, 0.7, 1.0, 1.3))]
HALVINGS = 10


def standard(values):
    mean = statistics.fmean(values)
    variance = statistics.fmean(value * value for value in values) - mean * mean
    return [(value - mean) / math.sqrt(variance) for value in values] if variance > 1e-12 else [0.0] * len(values)


class Query:
    def __init__(self, query, answer, middleware_of, known):
        keep = [not known or middleware_of[doc] == query.get("middleware") for doc in answer["ranked"]]
        if not any(keep):
            keep = [True] * len(keep)
        ranked = [doc for doc, kept in zip(answer["ranked"], keep) if kept]
        scores = [score for score, kept in zip(answer["scores"], keep) if kept]
        self.track, self.target = query["track"], query["targets"][0]
        self.right = [doc in query["targets"] for doc in ranked]
        self.kinds = (standard([s[0] for s in scores]), standard([s[1] for s in scores]), [s[2] for s in scores]) if scores else ([], [], [])
        self.ranks = {}

    def rank(self, weights):
        if weights not in self.ranks:
            scores = [sum(weight * value for weight, value in zip(weights, values)) for values in zip(*self.kinds)]
            best = max((score for score, right in zip(scores, self.right) if right), default=math.inf)
            # Equal texts have equal scores: the wrong one counts as before the right one.
            self.ranks[weights] = 1 + sum(score >= best and not right for score, right in zip(scores, self.right)) if best < math.inf else 10**9
        return self.ranks[weights]


def recall(queries, weights, at):
    tracks = {}
    for query in queries:
        tracks.setdefault(query.track, []).append(query.rank(weights) <= at)
    return {track: statistics.fmean(hits) for track, hits in tracks.items()}


def choose(queries):
    """The weights with the best mean over tracks of recall at 1 and at 3."""
    return max(GRID, key=lambda weights: statistics.fmean([*recall(queries, weights, 1).values(), *recall(queries, weights, 3).values()]))


def main():
    middleware_of = {row["doc_id"]: row.get("middleware", "") for row in map(json.loads, open(sys.argv[1]))}
    asked = [json.loads(line) for line in open(sys.argv[2])]
    answers = {row["qid"]: row for row in map(json.loads, open(sys.argv[3]))}
    for known in (False, True):
        queries = [Query(query, answers[query["qid"]], middleware_of, known) for query in asked]
        targets = sorted({query.target for query in queries})
        held, chosen = {}, []
        for seed in range(HALVINGS):
            half = set(random.Random(seed).sample(targets, len(targets) // 2))
            for side in (True, False):
                weights = choose([query for query in queries if (query.target in half) == side])
                chosen.append(weights)
                rest = [query for query in queries if (query.target in half) != side]
                for at in (1, 3):
                    for track, share in recall(rest, weights, at).items():
                        held.setdefault((track, at), []).append(share)
        print("middleware known" if known else "middleware not known")
        for track in sorted({query.track for query in queries}):
            force = [recall(queries, IN_FORCE, at)[track] for at in (1, 3)]
            out = [statistics.fmean(held[track, at]) for at in (1, 3)]
            print(f"  {track:10} in force {force[0]:.3f} {force[1]:.3f}   held out {out[0]:.3f} {out[1]:.3f} (±{statistics.stdev(held[track, 3]):.3f})")
        print(f"  chosen: vector {statistics.fmean(w[1] for w in chosen):.2f}, link {statistics.fmean(w[2] for w in chosen):.2f} to text 1")


if __name__ == "__main__":
    main()

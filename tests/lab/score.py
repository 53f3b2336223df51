"""Scoring: asks culprit while a fault is in force, and compares its candidates with the truth."""
import json
import time


def is_truth(candidate, truth):
    """Both must be right in one of the accepted answers: whom it blames (service or process), and the failure mode by any of its names."""
    modes = {candidate.get("failure_mode"), *(candidate.get("also") or [])}
    for accept in truth["accept"]:
        whom = candidate.get("service") in accept["services"] or candidate.get("process") in accept["processes"]
        if whom and modes & set(accept["failure_modes"]):
            return True
    return False


def rank_of(answer, truth):
    """Rank of the best candidate that is the truth, or None."""
    return next((number for number, candidate in enumerate(answer.get("candidates") or [], 1) if is_truth(candidate, truth)), None)


def rules_for(rules, truth):
    """Of the rules in force (`culprit rules list`), those whose failure mode is the truth, by any of its names."""
    modes = {mode for accept in truth["accept"] for mode in accept["failure_modes"]}
    return sorted(row["rule"] for row in rules if row["cause"] in modes and not row.get("off"))


def rules_fired(answer, truth):
    """The rules that the answer names for the truth: its evidence says which rule it owes the candidate to."""
    modes = {mode for accept in truth["accept"] for mode in accept["failure_modes"]}
    return sorted({hit["rule"] for hit in (answer.get("rules") or {}).get("fired") or [] if hit["failure_mode"] in modes})


def watch(culprit, fault, injected, within_s, since, trail):
    """Asks once a second until `within_s` after the injection. The rank that counts is the one at the end; the first
    right answers are timed. Every answer goes to the file `trail`."""
    service = fault.truth["symptom_service"]
    result = {"rank": None, "top3": False, "seconds_to_first": None, "seconds_to_top3": None, "answer": None, "asked": 0, "failed": 0,
              "rules": rules_for(culprit.rules(), fault.truth), "rules_fired": []}
    while True:
        due = time.time() + 1
        try:
            answer = culprit.why(service, since)
        except RuntimeError as error:
            answer = {"error": str(error)}
            result["failed"] += 1
        seconds = round(time.time() - injected, 1)
        rank = rank_of(answer, fault.truth)
        result["asked"] += 1
        result["rules_fired"] = sorted({*result["rules_fired"], *rules_fired(answer, fault.truth)})
        trail.write(json.dumps({"fault": fault.name, "seconds": seconds, "rank": rank, "answer": answer}) + "\n")
        trail.flush()
        if rank == 1 and result["seconds_to_first"] is None:
            result["seconds_to_first"] = seconds
        if rank and rank <= 3 and result["seconds_to_top3"] is None:
            result["seconds_to_top3"] = seconds
        if time.time() >= injected + within_s:
            candidates = answer.get("candidates") or []
            result["rank"], result["top3"] = rank, rank is not None and rank <= 3
            result["answer"] = candidates[0].get("title") if candidates else answer.get("error") or answer.get("verdict")
            result["answer_mode"] = candidates[0].get("failure_mode") if candidates else None
            return result
        time.sleep(max(0.0, due - time.time()))


def summary(results):
    by_fault = {}
    for result in results:
        by_fault.setdefault(result["fault"], []).append(result)
    repeats = max(map(len, by_fault.values()))
    runs = [[found[n] for found in by_fault.values() if n < len(found)] for n in range(repeats)]
    first = [sum(result["rank"] == 1 for result in run) for run in runs]
    top3 = [sum(result["top3"] for result in run) for run in runs]
    times = sorted(result["seconds_to_first"] for result in results if result["seconds_to_first"] is not None)
    return {"summary": True, "faults": len(by_fault), "repetitions": repeats, "first": first, "top3": top3,
            "seconds_to_first": {"median": times[len(times) // 2] if times else None, "max": times[-1] if times else None},
            "false_incidents": sum(result["false_incidents"] for result in results),
            "with_rule": sum(bool(result["rules"]) for result in results), "rule_named": sum(bool(result["rules_fired"]) for result in results),
            "cpu_cores": max(result["overhead"]["cpu_cores"] for result in results),
            "rss_mb": max(result["overhead"]["rss_mb"] for result in results)}


HEADER = f"{'fault':20} {'rank':>4} {'first':>7} {'top 3':>7} {'false':>5} {'cores':>6} {'MB':>5}  answer"


def row(result):
    seconds = lambda value: "-" if value is None else f"{value:.1f} s"
    return (f"{result['fault']:20} {result['rank'] or '-':>4} {seconds(result['seconds_to_first']):>7} "
            f"{seconds(result['seconds_to_top3']):>7} {result['false_incidents']:>5} {result['overhead']['cpu_cores']:>6.3f} "
            f"{result['overhead']['rss_mb']:>5.0f}  {result['answer']}"
            f"{' [rule ' + ', '.join(result['rules_fired']) + ']' if result['rules_fired'] else ''}")

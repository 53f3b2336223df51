// Weights: what each kind of evidence adds, in log-odds (2.3 = ten times as likely), in one place.
//
// They are judgement, chosen so that a direct observation (a kernel event, an errno, a log line that names the mode)
// outweighs a correlation, and a correlation outweighs a prior. To be calibrated on held-back incidents with
// confirmed causes; tests check orderings, not these numbers.
#pragma once

namespace culprit::explain::weight {

// Where: share of the root's trouble that stops at the blamed service.
inline constexpr double kLocated = 2.4;       // all of it
inline constexpr double kElsewhere = -1.6;    // none of it
inline constexpr double kUnlocated = 0.3;     // calls are unknown: no evidence either way

// Direct observations
inline constexpr double kKernelFact = 3.2;    // the kernel saw it happen: exit, OOM kill, SIGSTOP
inline constexpr double kErrno = 2.8;         // failing system calls with an errno that means the mode
inline constexpr double kLogSign = 3.0;       // a log line that means the mode, times the sign's own weight
inline constexpr double kLogMany = 0.4;       // and there are many of them
inline constexpr double kFullGauge = 1.6;     // a resource is at its limit
inline constexpr double kBlocks = 0.8;        // at most, for a service that the learned blocks single out (blocks.h)
inline constexpr double kVerdicts = 0.7;      // at most, either way, for what people said of earlier answers
inline constexpr double kRule = 1.0;          // times the weight that the rule gives itself

// Correlations
inline constexpr double kStrongSignal = 1.8;  // a deviation that the mode must cause
inline constexpr double kSignal = 1.1;        // a deviation that the mode often causes
inline constexpr double kHint = 0.5;
inline constexpr double kNewcomer = 1.2;      // the suspect was not there before
inline constexpr double kVersionChange = 2.6; // another version just before
inline constexpr double kRestartChange = 0.9; // started again just before
inline constexpr double kConfigChange = 1.5;
inline constexpr double kQuiet = 1.0;         // silence that fits: no CPU, no disk while calls hang

// Against
inline constexpr double kAgainst = -1.0;
inline constexpr double kStrongAgainst = -2.2;
inline constexpr double kTooLate = -2.5;      // it began after its supposed effect
inline constexpr double kExplainedAway = -2.0;  // a deeper candidate accounts for it
inline constexpr double kGenericBeaten = -1.5;  // it says only where; another says what, at the same place

// "Something that we do not see": the log-odds that a candidate has to beat.
inline constexpr double kUnknown = 2.2;
inline constexpr double kConclusive = 0.40;   // confidence below which the answer is "inconclusive"
inline constexpr double kConfidenceMax = 0.97;

}  // namespace culprit::explain::weight

//! What to try when: retry schedules, expiry, per-site windows, fairness.

//! Stock policies: relay control, recipients, submission checks.

//! `[suppression]`: whom never to write to, and how addresses get there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use merpati_plugin::options::{Located, Options};

const DAY: Duration = Duration::from_secs(86_400);

/// `[suppression]`; there is no list without the section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// `path`: the list's directory; default `suppression` in the state directory.
    pub path: PathBuf,
    /// `entries`: the most there may be; default 100,000.
    pub entries: usize,
    /// `bounces`: so many refusals put an address on the list; default 0, which is never.
    pub bounces: u32,
    /// `within`: the time in which they count together; default 30 days.
    pub within: Duration,
    /// `classes`: the classes of refusals that count; default `unknown-user`.
    pub classes: Vec<Located<String>>,
    /// `bounce_for`: how long a bounced address stays; default 90 days; zero is for good.
    pub bounce_for: Duration,
    /// `complaint_for`: the same for one whose owner has complained; default for good.
    pub complaint_for: Duration,
}

impl Suppression {
    pub(crate) fn read(options: Option<Options>, state_dir: &Path) -> Option<Self> {
        let options = options?;
        let mut reader = options.reader();
        let classes =
            vec![Located { value: "unknown-user".to_owned(), place: reader.place("classes") }];
        let read = Self {
            path: reader.or("path", state_dir.join("suppression")),
            entries: reader.ranged("entries", 1..=10_000_000, 100_000),
            bounces: reader.ranged("bounces", 0..=1_000, 0),
            within: reader.ranged("within", DAY / 24..=3_650 * DAY, 30 * DAY),
            classes: reader.or("classes", classes),
            bounce_for: reader.or("bounce_for", 90 * DAY),
            complaint_for: reader.or("complaint_for", Duration::ZERO),
        };
        let _ = reader.finish();
        Some(read)
    }
}

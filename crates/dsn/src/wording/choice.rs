//! Which language a report is in.

use bytes::Bytes;
use merpati_types::HeaderSection;

use super::Wording;

/// The most octets of a field that are looked at.
const FIELD_LIMIT: usize = 1_000;
/// The most languages of a field that are looked at.
const RANGE_LIMIT: usize = 20;

/// The wordings an operator has, and how one is chosen.
#[derive(Clone, Debug)]
pub struct Languages {
    default: Wording,
    /// Chosen by what the message says, if there are any.
    others: Vec<Wording>,
}

impl Languages {
    /// All reports in one language.
    #[must_use]
    pub fn fixed(wording: Wording) -> Self {
        Self { default: wording, others: Vec::new() }
    }

    /// Reports in the language that the message asks for (Accept-Language, RFC 3282 §3) or is in
    /// (Content-Language), where it says so and the wording is among these; in that of `default`
    /// otherwise.
    #[must_use]
    pub fn by_message(default: Wording, others: Vec<Wording>) -> Self {
        Self { default, others }
    }

    /// The wording for a report about the message with this header section.
    #[must_use]
    pub fn choose(&self, headers: &[u8]) -> &Wording {
        if self.others.is_empty() {
            return &self.default;
        }
        let Ok(headers) = HeaderSection::read(&Bytes::copy_from_slice(headers)) else {
            return &self.default;
        };
        ["Accept-Language", "Content-Language"]
            .into_iter()
            .filter_map(|name| headers.find(name))
            .flat_map(|field| ranges(field.value()))
            .find_map(|range| self.wording(&range))
            .unwrap_or(&self.default)
    }

    /// RFC 4647 §3.4: the range, or what is left of it when its last parts are taken off.
    fn wording(&self, range: &str) -> Option<&Wording> {
        if range == "*" {
            return Some(&self.default);
        }
        let all = || std::iter::once(&self.default).chain(&self.others);
        let mut rest = range;
        loop {
            if let Some(found) = all().find(|own| is_of(own.language(), rest)) {
                return Some(found);
            }
            rest = rest.rsplit_once('-')?.0;
        }
    }
}

/// Whether a language is the range, or a kind of it.
fn is_of(language: &str, range: &str) -> bool {
    language.split_at_checked(range.len()).is_some_and(|(start, rest)| {
        start.eq_ignore_ascii_case(range) && (rest.is_empty() || rest.starts_with('-'))
    })
}

/// The languages of a field, the most wanted first: `id, en;q=0.8`.
fn ranges(value: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(&value[..value.len().min(FIELD_LIMIT)]).into_owned();
    let mut ranges: Vec<(f32, String)> = Vec::new();
    for element in text.split(',').take(RANGE_LIMIT) {
        let (range, parameters) = element.split_once(';').unwrap_or((element, ""));
        let quality = parameters.split_once('=').map_or(1.0, |(_, quality)| {
            quality.trim().parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0)
        });
        let range = range.trim();
        if quality > 0.0 && !range.is_empty() {
            ranges.push((quality, range.to_owned()));
        }
    }
    // The sort is stable: of equals, the first stays first.
    ranges.sort_by(|one, other| other.0.total_cmp(&one.0));
    ranges.into_iter().map(|(_, range)| range).collect()
}

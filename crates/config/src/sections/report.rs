//! `[report]`: how senders are told what became of their mail.

use std::path::PathBuf;

use merpati_plugin::options::{Located, Options};

/// `[report]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `language`: a tag, as of the shipped `en` and `id`, or of one of `wordings`; default `en`.
    pub language: Option<Located<String>>,
    /// `by_message`: whether the message may ask for another language that is there
    /// (Accept-Language, Content-Language); default no.
    pub by_message: bool,
    /// `wordings`: files with the words of further languages, or other words; default none.
    pub wordings: Vec<Located<PathBuf>>,
    /// `classes`: a file of rules that tell the class of a reply before ours do; default none.
    pub classes: Option<Located<PathBuf>>,
}

impl Report {
    pub(crate) fn read(options: Option<Options>) -> Self {
        let default =
            Self { language: None, by_message: false, wordings: Vec::new(), classes: None };
        let Some(options) = options else { return default };
        let mut reader = options.reader();
        let read = Self {
            language: reader.optional("language"),
            by_message: reader.or("by_message", default.by_message),
            wordings: reader.or("wordings", default.wordings),
            classes: reader.optional("classes"),
        };
        let _ = reader.finish();
        read
    }
}

//! From the configuration to the words of reports.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use merpati_config::sections::Report;
use merpati_deliver::Reporting;
use merpati_dsn::{ClassRules, Classifier, Languages, Wording};
use merpati_plugin::options::{Errors, Located};

/// The longest file of words or rules, in octets.
const SIZE_LIMIT: u64 = 1 << 20;

/// How senders are told. What is wrong is told to `errors`, and left out.
pub(crate) fn reporting(config: &Report, errors: &Errors) -> Reporting {
    let mut wordings: Vec<Wording> = Wording::shipped().into_iter().cloned().collect();
    for file in &config.wordings {
        let parse = |text: &str| Wording::parse(text, Wording::english());
        match read(&file.value, parse) {
            Ok(wording) => {
                wordings.retain(|other| other.language() != wording.language());
                wordings.push(wording);
            }
            Err(why) => told(file, why, errors),
        }
    }
    let asked = config.language.as_ref().map_or("en", |language| language.value.as_str());
    let found = wordings.iter().find(|wording| wording.language().eq_ignore_ascii_case(asked));
    if let (None, Some(language)) = (found, &config.language) {
        let known: Vec<_> = wordings.iter().map(Wording::language).collect();
        let message = format_args!("no wording is in `{asked}`; there are: {}", known.join(", "));
        errors.report(&language.place, message);
    }
    let default = found.unwrap_or(Wording::english()).clone();
    let classifier = config.classes.as_ref().and_then(|file| {
        let rules = read(&file.value, ClassRules::parse);
        rules.map(Classifier::new).map_err(|why| told(file, why, errors)).ok()
    });
    Reporting {
        languages: match config.by_message {
            true => Languages::by_message(default, wordings),
            false => Languages::fixed(default),
        },
        classifier: classifier.unwrap_or_default(),
    }
}

fn told<T>(file: &Located<T>, why: String, errors: &Errors) {
    errors.report(&file.place, why);
}

fn read<T, E: std::fmt::Display>(
    path: &Path,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, String> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(SIZE_LIMIT + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if text.len() as u64 > SIZE_LIMIT {
        return Err(format!("{} is longer than {SIZE_LIMIT} octets", path.display()));
    }
    parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use merpati_config::{ConfigFile, RoleConfig};

    use super::*;

    /// The language of reports about a message that asks for German, or what is wrong.
    fn check(section: &str, expected: Result<&str, &str>) {
        let files = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(files.path().join(name), text).unwrap();
        write("de.txt", "[language]\nde\n\n[failed.subject]\nUnzustellbar\n");
        write("bad.txt", "[nowhere]\nx\n");
        let section = section.replace("DIR", files.path().to_str().unwrap());
        let text = format!(
            "hostname = \"a.test\"\nstate_dir = \"/tmp\"\n[[listen]]\naddress = \
             \"127.0.0.1:25\"\n[report]\n{section}"
        );
        let file = ConfigFile::parse("x.toml", text);
        let config = RoleConfig::read(file.options());
        let reporting = reporting(&config.report, file.errors());
        let told: Vec<_> = file.errors().sorted().iter().map(|e| e.message.clone()).collect();
        let language = reporting.languages.choose(b"Accept-Language: de\r\n").language().to_owned();
        let said = told.join("; ").replace(files.path().to_str().unwrap(), "DIR");
        match expected {
            Ok(expected) => assert_eq!((language.as_str(), said.as_str()), (expected, "")),
            Err(expected) => assert!(said.contains(expected), "{said}"),
        }
    }

    #[test]
    fn the_language_is_the_operators_or_the_messages() {
        check("", Ok("en"));
        check("language = \"id\"", Ok("id"));
        check("language = \"ID\"\nby_message = true", Ok("id"));
        check("wordings = [\"DIR/de.txt\"]", Ok("en"));
        check("wordings = [\"DIR/de.txt\"]\nby_message = true", Ok("de"));
        check("wordings = [\"DIR/de.txt\"]\nlanguage = \"de\"", Ok("de"));
        check("language = \"fr\"", Err("no wording is in `fr`; there are: en, id"));
        check("wordings = [\"DIR/bad.txt\"]", Err("DIR/bad.txt: "));
        check("wordings = [\"DIR/absent\"]", Err("cannot read DIR/absent: "));
        check("classes = \"DIR/bad.txt\"", Err("DIR/bad.txt: "));
    }
}

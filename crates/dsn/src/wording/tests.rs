//! What the shipped wordings have, and what an operator may write.

use super::*;

/// Every section, with its name.
fn sections() -> Vec<(String, Slot)> {
    let mut names: Vec<String> =
        ["from", "greeting", "said", "tried-until"].map(str::to_owned).into();
    for news in ["failed", "delayed", "delivered"] {
        names.extend(["subject", "opening", "closing"].map(|part| format!("{news}.{part}")));
    }
    names.extend(["delivered", "relayed", "expanded"].map(|done| format!("recipient.{done}")));
    for class in BounceClass::ALL {
        names.extend(["reason", "advice"].map(|part| format!("{part}.{class}")));
    }
    names.into_iter().map(|name| (name.clone(), Slot::of(&name).unwrap())).collect()
}

#[test]
fn shipped_wordings_are_whole() {
    let values = Values::default();
    for wording in Wording::shipped() {
        for (name, slot) in sections() {
            let language = wording.language();
            assert!(wording.texts.contains_key(&slot), "{language} lacks [{name}]");
            let may_be_empty = name.ends_with(".closing") || name.ends_with(".other");
            let is_empty = wording.paragraphs(slot, &values).is_empty();
            assert!(!is_empty || may_be_empty, "{language} says nothing in [{name}]");
        }
        assert_eq!(wording.texts.len(), sections().len());
    }
    assert_eq!(Wording::shipped().map(Wording::language), ["en", "id"]);
    // A section that says nothing in one language says nothing in the other.
    for (name, slot) in sections() {
        let is_empty = |wording: &Wording| wording.paragraphs(slot, &values).is_empty();
        assert_eq!(is_empty(Wording::english()), is_empty(Wording::indonesian()), "[{name}]");
    }
}

#[test]
fn texts_are_filled_in() {
    let check = |text: &str, expected: &[&str]| {
        let text = format!("[said]\n{text}\n");
        let wording = Wording::parse(&text, Wording::english()).unwrap();
        let values = Values {
            host: "relay.test",
            sender: "a@sender.test",
            arrived: "then",
            id: "7",
            recipient: "b@test",
            status: "5.1.1",
            remote: "mx.test",
            date: "never",
        };
        assert_eq!(wording.paragraphs(Slot::Said, &values), expected, "{text}");
    };
    check("{host} {sender} {arrived} {id}", &["relay.test a@sender.test then 7"]);
    check("{recipient},{status},{remote}", &["b@test,5.1.1,mx.test"]);
    check("one\ntwo  \n\n \nthree\tfour\n", &["one two", "three four"]);
    check("{{host}} {{{host}}} }}{{", &["{host} {relay.test} }{"]);
    check("é{host}é\n# nothing\n [x] [X]", &["érelay.testé  [x] [X]"]);
    check("", &[]);
}

#[test]
fn an_operator_changes_what_he_likes() {
    let own = Wording::parse("[greeting]\nHallo.\n", Wording::indonesian()).unwrap();
    assert_eq!(own.language(), "id");
    let values = Values::default();
    assert_eq!(own.line(Slot::Greeting, &values), "Hallo.");
    let kept = Slot::Subject(News::Failed);
    assert_eq!(own.line(kept, &values), Wording::indonesian().line(kept, &values));
    let silent = Wording::parse("[greeting]\n[language]\npt-BR\n", Wording::english()).unwrap();
    assert_eq!((silent.language(), silent.line(Slot::Greeting, &values).as_str()), ("pt-BR", ""));
}

#[test]
fn what_is_wrong_has_a_place() {
    let check = |text: &str, line, column, fault| {
        let found = Wording::parse(text, Wording::english());
        assert_eq!(found, Err(WordingError { line, column, fault }), "{text}");
    };
    check("\n# c\nx", 3, 1, WordingFault::OutsideSection);
    check("[greeting]\nx\n[greting]\n", 3, 1, WordingFault::UnknownSection);
    check("[reason.full]\n", 1, 1, WordingFault::UnknownSection);
    check("[from]\n\n[from]", 3, 1, WordingFault::RepeatedSection);
    check("[greeting]\nétwo\n é {hots}", 3, 4, WordingFault::UnknownPlaceholder);
    check("[greeting]\n{remote}", 2, 1, WordingFault::MisplacedPlaceholder);
    check("[greeting]\n{recipient}", 2, 1, WordingFault::MisplacedPlaceholder);
    check("[reason.spam]\n{date}", 2, 1, WordingFault::MisplacedPlaceholder);
    check("[tried-until]\n{date} {remote}", 2, 8, WordingFault::MisplacedPlaceholder);
    check("[greeting]\nab {host", 2, 4, WordingFault::Brace);
    check("[greeting]\n{ho{st}", 2, 1, WordingFault::Brace);
    check("[greeting]\nab }", 2, 4, WordingFault::Brace);
    check("[greeting]\n{host}\u{7}", 2, 7, WordingFault::Control);
    check("[language]\nhuman words\n", 1, 1, WordingFault::Language);
    check("[language]\n", 1, 1, WordingFault::Language);
    check("[language]\nen\u{e9}\n", 1, 1, WordingFault::Language);
    let long = format!("[from]\nx\n[greeting]\n{}", "x\n".repeat(4_097));
    check(&long, 3, 1, WordingFault::TooLong { limit: 8_192 });
    check(&"\n".repeat(262_145), 1, 1, WordingFault::TooLong { limit: 262_144 });
    let error = Wording::parse("[from]\n{x}", Wording::english()).unwrap_err();
    assert_eq!(error.to_string(), "line 2, column 1: no such placeholder");
}

#[test]
fn the_language_is_the_message_s_if_wanted() {
    let english = || Wording::english().clone();
    let indonesian = || Wording::indonesian().clone();
    let brazil = Wording::parse("[language]\npt-BR\n", Wording::english()).unwrap();
    let languages = Languages::by_message(english(), vec![indonesian(), brazil]);
    let check = |headers: &str, expected: &str| {
        assert_eq!(languages.choose(headers.as_bytes()).language(), expected, "{headers}");
    };
    check("Subject: hi\r\n", "en");
    check("Content-Language: id\r\n", "id");
    check("content-language: ID-id\r\n", "id");
    check("Content-Language: de, id\r\n", "id");
    check("Content-Language: de\r\n", "en");
    check("Content-Language: pt\r\n", "pt-BR");
    check("Content-Language: pt-PT\r\n", "pt-BR");
    check("Content-Language: i\r\n", "en");
    check("Accept-Language: en-GB, id;q=0.8\r\nContent-Language: id\r\n", "en");
    check("Accept-Language: de;q=1, en;q=0.5, id ; q=0.8\r\n", "id");
    check("Accept-Language: id;q=0, en\r\n", "en");
    check("Accept-Language: *, id;q=0.5\r\n", "en");
    check("Accept-Language: de\r\nContent-Language: id\r\n", "id");
    check("Accept-Language: id;q=x,,;;,\r\n", "en");
    check("Accept-Language: \u{e9},-,id-\r\n", "id");
    check("no header", "en");
    assert_eq!(Languages::fixed(indonesian()).choose(b"Accept-Language: en\r\n").language(), "id");
}

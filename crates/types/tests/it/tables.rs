//! Plays the tables.

use std::fmt::{Debug, Display};

use merpati_types::{
    Domain, EnhancedStatus, ForwardPath, Host, Mailbox, ReversePath, StatusError, Timestamp, xtext,
};

/// What is written back, or the error.
fn read<T: Display, E: Debug>(result: Result<T, E>) -> Result<String, String> {
    result.map(|value| value.to_string()).map_err(|error| format!("{error:?}"))
}

#[test]
fn addresses_read_as_the_table_says() {
    let mut cases = 0;
    let mut failures = Vec::new();
    for (number, line) in include_str!("addresses.txt").lines().enumerate() {
        if line.is_empty() || line.starts_with("# ") {
            continue;
        }
        let (kind, rest) = line.split_once(' ').expect("a kind stands first");
        let (text, expected) = if let Some(text) = rest.strip_suffix(" =") {
            (text, Ok(text))
        } else if let Some((text, written)) = rest.rsplit_once(" = ") {
            (text, Ok(written))
        } else {
            let (text, error) = rest.rsplit_once(" ! ").expect("a verdict stands last");
            (text, Err(error.to_owned()))
        };
        let text = unescape(text);
        let found = match kind {
            "m" => read(Mailbox::parse(&text)),
            "d" => read(Domain::parse(&text).map(|domain| domain.as_ascii().to_owned())),
            "h" => read(Host::parse(&text)),
            "r" => read(ReversePath::parse(&text)),
            "f" => read(ForwardPath::parse(&text)),
            _ => panic!("line {}: no kind {kind:?}", number + 1),
        };
        cases += 1;
        if found != expected.map(unescape) {
            failures.push(format!("line {}: {line}\n    {found:?}", number + 1));
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(cases > 200, "only {cases} cases were found");
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        out.push(match characters.next() {
            Some('t') => '\t',
            Some('0') => '\0',
            Some('r') => '\r',
            Some('n') => '\n',
            Some('u') => {
                let code: String =
                    characters.by_ref().skip(1).take_while(|&digit| digit != '}').collect();
                let code = u32::from_str_radix(&code, 16).expect("an escape is hexadecimal");
                char::from_u32(code).expect("an escape is a character")
            }
            Some(same) => same,
            None => panic!("{text:?} ends in a backslash"),
        });
    }
    out
}

#[test]
fn statuses_read_as_they_are_written() {
    for same in ["2.0.0", "2.1.5", "4.7.1", "5.1.1", "5.7.25", "4.999.999", "5.0.0"] {
        assert_eq!(
            same.parse::<EnhancedStatus>().map(|status| status.to_string()),
            Ok(same.into())
        );
    }
    for wrong in [
        "", ".", "5", "5.", "5.1", "5.1.", ".1.1", "1.1.1", "3.0.0", "6.1.1", "05.1.1", "55.1.1",
        "5.1.1.", "5.1.1.1", "5.1.1 ", " 5.1.1", "5.1000.0", "5.0.1000", "+5.1.1", "5.+1.1",
        "5.x.1", "５.1.1",
    ] {
        assert_eq!(wrong.parse::<EnhancedStatus>(), Err(StatusError), "{wrong:?}");
    }
}

#[test]
fn xtext_reads_as_rfc_3461_says() {
    for (encoded, decoded) in [
        ("", ""),
        ("abc", "abc"),
        ("a+2Bb", "a+b"),
        ("a+3Db", "a=b"),
        ("a+20b", "a b"),
        ("+C3+A9", "é"),
        ("!~", "!~"),
        ("+2B+2B", "++"),
    ] {
        assert_eq!(xtext::decode(encoded).as_deref(), Some(decoded));
        assert_eq!(xtext::encode(decoded), encoded);
    }
    for wrong in ["+", "+2", "+2b", "+GG", "a=b", "a b", "é", "+C3", "\t", "+2+"] {
        assert_eq!(xtext::decode(wrong), None, "{wrong:?}");
    }
}

/// A day by day walk through four centuries, against the calendar's own rules.
#[test]
fn dates_follow_the_calendar() {
    let (mut year, mut month, mut day) = (1970, 1, 1);
    for days in 0..146_097_i64 {
        let time = Timestamp::from_millis(days * 86_400_000 + 3_723_004);
        assert_eq!(time.to_string(), format!("{year:04}-{month:02}-{day:02}T01:02:03.004Z"));
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        day += 1;
        if day > length {
            (month, day) = (month + 1, 1);
        }
        if month > 12 {
            (year, month) = (year + 1, 1);
        }
    }
    assert_eq!((year, month, day), (2370, 1, 1));
}

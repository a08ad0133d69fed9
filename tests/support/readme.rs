//! The README's examples, as what they are to be compared with. The language of a block of code is
//! followed by a word that says which example it is: people do not see it.

const README: &str = include_str!("../../README.md");

/// The whole text.
pub fn text() -> &'static str {
    README
}

/// The blocks of code of this kind, a language and a word, in their order.
#[track_caller]
pub fn blocks(kind: &str) -> Vec<&'static str> {
    let begin = format!("\n```{kind}\n");
    let behind = README.split(&begin).skip(1);
    let block = |behind: &'static str| behind.split_once("\n```\n").expect("its end").0;
    let blocks: Vec<&str> = behind.map(block).collect();
    assert!(!blocks.is_empty(), "the README has no {kind}");
    blocks
}

/// A command of an example, and the lines that it is said to print.
#[derive(Debug)]
pub struct Example {
    pub curl: Curl,
    pub printed: Vec<&'static str>,
}

/// What curl is told to do.
#[derive(Debug, PartialEq)]
pub struct Curl {
    /// Path and query.
    pub target: String,
    /// Of a POST.
    pub body: Option<&'static str>,
    /// A header field.
    pub field: Option<&'static str>,
}

/// The commands of a block, which stand behind `$ `.
#[track_caller]
pub fn examples(block: &'static str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), examples.last_mut()) {
            (Some(command), _) => examples.push(Example {
                curl: curl(command).expect(command),
                printed: Vec::new(),
            }),
            (None, Some(example)) => example.printed.push(line),
            (None, None) => panic!("{line:?} stands before any command"),
        }
    }
    examples
}

/// A command line, if it is curl's. What matters here is the URL and `-d`.
pub fn curl(command: &'static str) -> Option<Curl> {
    let mut rest = command.strip_prefix("curl ")?;
    let (mut target, mut body, mut is_body) = (None, None, false);
    let (mut field, mut is_field) = (None, false);
    while !rest.is_empty() {
        let word;
        (word, rest) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'')?,
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        rest = rest.trim_start();
        match word {
            _ if std::mem::take(&mut is_body) => body = Some(word),
            _ if std::mem::take(&mut is_field) => field = Some(word),
            "-d" => is_body = true,
            "-H" => is_field = true,
            "#" => break,
            _ if word.starts_with('-') => {}
            _ => {
                let (_, path) = word.strip_prefix("http://")?.split_once('/')?;
                target = Some(format!("/{path}"));
            }
        }
        if target.is_some() && rest.starts_with(['#', '&']) {
            break;
        }
    }
    Some(Curl {
        target: target?,
        body,
        field,
    })
}

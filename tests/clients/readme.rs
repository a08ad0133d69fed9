//! The README's code: what it shows is what is tested.

const README: &str = include_str!("../../README.md");

/// The first block of code in this language.
#[track_caller]
pub fn block(language: &str) -> &'static str {
    let begin = format!("\n```{language}\n");
    let (_, rest) = README.split_once(&begin).expect("a block of code");
    let (block, _) = rest.split_once("\n```\n").expect("its end");
    block
}

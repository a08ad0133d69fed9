//! The dashboard and the alerts ask for what the gateway tells, and nothing else: a metric that is
//! renamed would leave an empty panel, and an alert that never comes.
//!
//! promtool, of Debian's package prometheus, tries the alerts and reads every expression.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;
use ssegateway::config::SETTINGS;

use super::{read, root};
use crate::support::Folder;
use crate::support::Gateway;

const ALERTS: &str = "packaging/prometheus/alerts.yml";
const ALERT_TESTS: &str = "packaging/prometheus/alerts_test.yml";
const DASHBOARD: &str = "packaging/grafana/dashboard.json";

/// A family of metrics.
#[derive(Default)]
struct Family {
    /// It only grows: counters and histograms.
    grows: bool,
    /// The labels of its samples.
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// What a gateway tells at `GET /internal/metrics` (contract, section 14), by name.
fn told() -> BTreeMap<String, Family> {
    let gateway = Gateway::builder().start();
    let mut client = gateway.connect();
    client.get("/internal/metrics");
    let page = String::from_utf8(client.read_response().body).expect("text");
    let mut told: BTreeMap<String, Family> = BTreeMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            let grows = kind != "gauge";
            told.entry(name.to_owned()).or_default().grows = grows;
            // A histogram's samples have names of their own.
            if kind == "histogram" {
                for part in ["_bucket", "_count", "_sum"] {
                    told.entry(format!("{name}{part}")).or_default().grows = grows;
                }
            }
        } else if !line.starts_with('#') {
            for selector in selectors(line) {
                let family = told.get_mut(selector.name).expect("a type first");
                for (label, _, value) in selector.matchers {
                    let values = family.labels.entry(label.to_owned()).or_default();
                    values.insert(value.to_owned());
                }
            }
        }
    }
    assert!(told.len() > 40, "{page}");
    told
}

/// A metric in an expression.
struct Selector<'a> {
    /// What stands before it.
    before: &'a str,
    name: &'a str,
    /// Label, operator and value.
    matchers: Vec<(&'a str, &'a str, &'a str)>,
}

/// The gateway's metrics in `text`.
fn selectors(text: &str) -> Vec<Selector<'_>> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in text.match_indices("ssegateway_") {
        let rest = &text[at..];
        let (name, rest) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
        let inner = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let matchers = inner.map_or("", |(inner, _)| inner).split("\",");
        found.push(Selector {
            before: &text[..at],
            name,
            matchers: matchers.filter_map(matcher_of).collect(),
        });
    }
    found
}

/// `label="value`, with its last quotation mark or without.
fn matcher_of(text: &str) -> Option<(&str, &str, &str)> {
    let (left, value) = text.trim().split_once('"')?;
    let end = left.find(['=', '!'])?;
    Some((&left[..end], &left[end..], value.trim_end_matches('"')))
}

/// The panels of the dashboard, rows included.
fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect(DASHBOARD);
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.len() > 20, "{} panels", panels.len());
    panels.clone()
}

/// What the panels ask for: title, expression, legend.
fn questions() -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for panel in panels() {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        assert!(panel["type"] == "row" || !targets.is_empty(), "{title}");
        for target in targets {
            let [question, legend] = ["expr", "legendFormat"].map(|key| {
                let text = target[key].as_str();
                text.unwrap_or_else(|| panic!("{title}: no {key}"))
                    .to_owned()
            });
            found.push((title.clone(), question, legend));
        }
    }
    found
}

/// Labels that stand behind `by` in an expression, and in a legend.
fn labels(question: &str, legend: &str) -> BTreeSet<String> {
    let groups = question.split("by (").skip(1);
    let groups = groups.filter_map(|rest| Some(rest.split_once(')')?.0));
    let shown = legend.split("{{").skip(1);
    let shown = shown.filter_map(|rest| Some(rest.split_once("}}")?.0));
    let all = groups.flat_map(|group| group.split(',')).chain(shown);
    all.map(|label| label.trim().to_owned()).collect()
}

/// What an expression asks for is told: metric, labels, and their values.
#[track_caller]
fn assert_told(told: &BTreeMap<String, Family>, title: &str, question: &str, legend: &str) {
    let asked = selectors(question);
    let mut known: BTreeSet<_> = ["job", "instance"].map(str::to_owned).into();
    for Selector {
        before,
        name,
        matchers,
    } in &asked
    {
        let family = told
            .get(*name)
            .unwrap_or_else(|| panic!("{title}: no {name}"));
        known.extend(family.labels.keys().cloned());
        let is_rate = before.ends_with("rate(");
        assert_eq!(is_rate, family.grows, "{title}: the rate of {name}?");
        for (label, operator, value) in matchers {
            if ["job", "instance"].contains(label) {
                continue;
            }
            let values = family.labels.get(*label);
            let values = values.unwrap_or_else(|| panic!("{title}: no {label} of {name}"));
            let is_list = operator.ends_with('~');
            for value in value.split(|c| is_list && c == '|') {
                assert!(
                    values.contains(value),
                    "{title}: {name} has no {label} {value}"
                );
            }
        }
    }
    for label in labels(question, legend) {
        assert!(known.contains(&label), "{title}: no {label} in {question}");
    }
}

#[test]
fn what_is_asked_for_is_told() {
    let told = told();
    for (title, question, legend) in questions() {
        assert!(question.contains("ssegateway_"), "{title}: {question}");
        assert_told(&told, &title, &question, &legend);
    }
    let alerts = read(ALERTS);
    for rule in alerts.split("- alert: ").skip(1) {
        let (name, rule) = rule.split_once('\n').expect("a rule");
        let (question, texts) = rule.split_once("annotations:").expect("its texts");
        assert_told(&told, name, question, "");
        // What they say to look at.
        for selector in selectors(texts) {
            assert!(
                told.contains_key(selector.name),
                "{name}: {}",
                selector.name
            );
        }
    }
    // What they are tried with; labels of the scraper's beside the gateway's.
    for selector in selectors(&read(ALERT_TESTS)) {
        let name = selector.name;
        let family = told.get(name).unwrap_or_else(|| panic!("no {name}"));
        for (label, _, value) in selector.matchers {
            let values = family.labels.get(label);
            let is_told = values.is_some_and(|values| values.contains(value));
            assert!(
                ["job", "instance"].contains(&label) || is_told,
                "{name} {label} {value}"
            );
        }
    }
}

#[test]
fn each_panel_has_its_place_and_follows_the_variables() {
    let number = |panel: &Value, key: &str| panel["gridPos"][key].as_u64().expect("a number");
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels() {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}");
        let (x, y) = (number(&panel, "x"), number(&panel, "y"));
        let (width, height) = (number(&panel, "w"), number(&panel, "h"));
        assert!(width > 0 && height > 0 && x + width <= 24, "{title}");
        for place in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(taken.insert(place), "{title} covers another panel");
        }
        if panel["type"] != "row" {
            let targets = panel["targets"].as_array().expect("targets");
            for of in targets.iter().chain([&panel]) {
                assert_eq!(of["datasource"]["uid"], "${datasource}", "{title}");
            }
        }
    }
    for (title, question, _) in questions() {
        // Of the gateways that were chosen.
        let series = question.matches("ssegateway_").count();
        let chosen = question.matches(r#"instance=~"$instance""#).count();
        assert_eq!(series, chosen, "{title}: {question}");
    }
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect(DASHBOARD);
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    let named = |one: &Value| (one["name"].clone(), one["type"].clone());
    let variables: Vec<_> = variables.iter().map(named).collect();
    let expected = [("datasource", "datasource"), ("instance", "query")];
    assert_eq!(
        variables,
        expected.map(|(name, of)| (name.into(), of.into()))
    );
}

/// The names of the alerts, in their order.
fn alerts(text: &str) -> Vec<&str> {
    let lines = text.lines().map(str::trim);
    lines
        .filter_map(|line| line.strip_prefix("- alert: "))
        .collect()
}

#[test]
fn each_alert_is_tried_and_says_what_to_do() {
    let (text, tests) = (read(ALERTS), read(ALERT_TESTS));
    let names = alerts(&text);
    assert!(names.len() > 10, "{names:?}");
    for (name, rule) in names.iter().zip(text.split("- alert: ").skip(1)) {
        // One gateway for which it comes. promtool compares all that fire, at moments that are
        // too early as well.
        let fires = format!(r#"alertname="{name}""#);
        assert!(tests.contains(&fires), "{name} is not tried");
        for part in ["severity: ", "summary: ", "description: "] {
            assert_eq!(rule.matches(part).count(), 1, "{name}: {part}");
        }
    }
    // What they advise to set can be set; codes of answers look the same.
    let codes = ["RETAINED_FULL"];
    let is_name = |word: &&str| {
        let upper = |c: char| c.is_ascii_uppercase() || c == '_';
        word.chars().all(upper) && word.trim_matches('_').contains('_')
    };
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for word in words.filter(is_name) {
        let is_setting = SETTINGS.iter().any(|setting| setting.name == word);
        assert!(is_setting || codes.contains(&word), "{word} is no setting");
    }
}

#[track_caller]
fn promtool(args: &[&str]) {
    let output = Command::new("promtool").args(args).output();
    let output = output.expect("promtool, of Debian's package prometheus, runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}\n{said}\n{error}");
}

#[test]
#[ignore = "needs promtool"]
fn promtool_finds_no_fault() {
    let path = |file: &str| root().join(file).to_str().expect("a path").to_owned();
    promtool(&[
        "check",
        "rules",
        "--lint=all",
        "--lint-fatal",
        &path(ALERTS),
    ]);
    promtool(&["test", "rules", &path(ALERT_TESTS)]);

    // What a dashboard asks as rules, which is what promtool reads.
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (at, (_, question, _)) in questions().into_iter().enumerate() {
        let question = question
            .replace("$__rate_interval", "5m")
            .replace("$instance", ".*");
        assert!(!question.contains('$'), "{question}");
        rules += &format!(
            "  - record: panel_{at}\n    expr: {}\n",
            Value::from(question)
        );
    }
    let folder = Folder::new("dashboard");
    let file = folder.0.join("rules.yml");
    fs::write(&file, rules).expect("a file");
    promtool(&["check", "rules", file.to_str().expect("a path")]);
}

//! What `GET /internal/metrics` answers: a reader of Prometheus' text format (version 0.0.4) that
//! takes nothing but what the format and the conventions for names allow.
//!
//! A series is named in short here, without the prefix: `sends_total target=token answer=ok`.

use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};

const PREFIX: &str = "ssegateway_";

/// One page of figures.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// In the order of the page.
    pub families: Vec<Family>,
    /// By their names in short.
    samples: BTreeMap<String, f64>,
    /// The last family has no sample yet.
    is_fresh: bool,
}

/// What the page says of a family.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Without the prefix.
    pub name: String,
    pub help: String,
    pub kind: String,
    /// In their order; `le` is left out.
    pub labels: Vec<String>,
}

impl Metrics {
    /// Reads a page, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Metrics, String> {
        let mut metrics = Metrics::default();
        let text = text.strip_suffix('\n').ok_or("no end of the last line")?;
        for line in text.split('\n') {
            let read = match line.strip_prefix("# ") {
                Some(comment) => metrics.comment(comment),
                None => metrics.sample(line),
            };
            read.map_err(|why| format!("{why}: {line:?}"))?;
        }
        if metrics.is_fresh {
            return Err("a family without a sample at the end".to_owned());
        }
        let families = std::mem::take(&mut metrics.families);
        for family in &families {
            metrics.check(family)?;
        }
        metrics.families = families;
        Ok(metrics)
    }

    /// The value of a series.
    #[track_caller]
    pub fn get(&self, series: &str) -> f64 {
        let value = self.samples.get(series);
        *value.unwrap_or_else(|| panic!("no {series} in {:#?}", self.samples))
    }

    /// The same of one that counts something.
    #[track_caller]
    pub fn count(&self, series: &str) -> u64 {
        let value = self.get(series);
        assert!(value >= 0.0 && value.fract() == 0.0, "{series} {value}");
        value as u64
    }

    /// All series.
    pub fn series(&self) -> impl Iterator<Item = &str> {
        self.samples.keys().map(String::as_str)
    }

    /// The series of a family with their values.
    pub fn of<'a>(&'a self, family: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let all = self.samples.range::<str, _>((Included(family), Unbounded));
        let all = all.take_while(move |(series, _)| series.starts_with(family));
        all.filter_map(move |(series, value)| {
            (name_of(series) == family).then_some((series.as_str(), *value))
        })
    }

    /// What a family comes to over all its labels.
    pub fn sum(&self, family: &str) -> u64 {
        self.of(family).map(|(_, value)| value as u64).sum()
    }

    /// The counters that have grown since an earlier page, and by how much.
    ///
    /// # Panics
    /// One has become smaller, or is gone.
    #[track_caller]
    pub fn since(&self, earlier: &Metrics) -> BTreeMap<String, u64> {
        let was = earlier.samples.iter();
        for (series, was) in was.filter(|(series, _)| name_of(series).ends_with("_total")) {
            let is = self.get(series);
            assert!(is >= *was, "{series} was {was} and is {is}");
        }
        let is = self.samples.iter();
        let counters = is.filter(|(series, _)| name_of(series).ends_with("_total"));
        let grown = counters.map(|(series, is)| {
            let was = earlier.samples.get(series).copied().unwrap_or(0.0);
            (series.clone(), (is - was) as u64)
        });
        grown.filter(|(_, by)| *by > 0).collect()
    }

    // ---- line by line ----

    fn comment(&mut self, comment: &str) -> Result<(), String> {
        let mut words = comment.splitn(3, ' ');
        let mut word = || words.next().filter(|word| !word.is_empty());
        let (Some(what), Some(name), Some(rest)) = (word(), word(), word()) else {
            return Err("not a comment that means something".to_owned());
        };
        let name = name.strip_prefix(PREFIX).ok_or("no prefix")?;
        if what == "HELP" && self.is_fresh {
            return Err("a family without a sample before it".to_owned());
        }
        match what {
            "HELP" if self.families.iter().all(|family| family.name != name) => {
                self.families.push(Family {
                    name: name.to_owned(),
                    help: rest.to_owned(),
                    kind: String::new(),
                    labels: Vec::new(),
                });
                Ok(())
            }
            "TYPE" => match self.families.last_mut() {
                Some(family) if family.name == name && family.kind.is_empty() => {
                    family.kind = rest.to_owned();
                    self.is_fresh = true;
                    Ok(())
                }
                _ => Err("a type that does not follow its help".to_owned()),
            },
            _ => Err("a second help, or neither help nor type".to_owned()),
        }
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let (series, value) = line.rsplit_once(' ').ok_or("no value")?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels_of(labels)?),
            None => (series, Vec::new()),
        };
        let name = name.strip_prefix(PREFIX).ok_or("no prefix")?;
        is_name(name).then_some(()).ok_or("not a name")?;
        let family = self.families.last_mut();
        let family = family.ok_or("a sample before any family")?;
        let rest = name.strip_prefix(&*family.name).ok_or("another family")?;
        let is_part = match &*family.kind {
            "gauge" | "counter" => rest.is_empty(),
            "histogram" => ["_bucket", "_sum", "_count"].contains(&rest),
            _ => return Err("a sample without a type".to_owned()),
        };
        is_part.then_some(()).ok_or("not a part of its family")?;
        let mut names: Vec<String> = labels.iter().map(|(name, _)| name.clone()).collect();
        if rest == "_bucket" {
            let is_last = names.pop().is_some_and(|name| name == "le");
            is_last.then_some(()).ok_or("a bucket without a bound")?;
        }
        if std::mem::take(&mut self.is_fresh) {
            family.labels = names;
        } else if family.labels != names {
            return Err("other labels than the one before".to_owned());
        }
        let number: f64 = value.parse().map_err(|_| "not a number")?;
        number.is_finite().then_some(()).ok_or("not finite")?;
        let labels = labels
            .iter()
            .map(|(name, value)| format!(" {name}={value}"));
        let series = name.to_owned() + &labels.collect::<String>();
        match self.samples.insert(series, number) {
            None => Ok(()),
            Some(_) => Err("a second sample of this series".to_owned()),
        }
    }

    // ---- family by family ----

    fn check(&self, family: &Family) -> Result<(), String> {
        let Family { name, kind, .. } = family;
        let is_whole = |(_, value): (&str, f64)| value >= 0.0 && value.fract() == 0.0;
        let is_right = match &**kind {
            "counter" => name.ends_with("_total") && self.of(name).all(is_whole),
            "gauge" => !name.ends_with("_total"),
            _ => self.is_histogram(name),
        };
        is_right.then_some(()).ok_or(format!("{name} is no {kind}"))
    }

    /// Whether the buckets of each set of labels are cumulative and end with all.
    fn is_histogram(&self, name: &str) -> bool {
        let count = format!("{name}_count");
        let mut counts = self.of(&count);
        counts.all(|(series, count)| {
            let labels = &series[name.len() + "_count".len()..];
            let buckets = self.buckets(name, labels);
            let is_sorted = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
            is_sorted && buckets.last() == Some(&(f64::INFINITY, count))
        })
    }

    /// The bounds of a histogram's buckets and how many are within; `labels` as in ` kind=connect`.
    pub fn buckets(&self, name: &str, labels: &str) -> Vec<(f64, f64)> {
        let prefix = format!("{name}_bucket{labels} le=");
        let buckets = format!("{name}_bucket");
        let buckets = self.of(&buckets).filter_map(|(series, value)| {
            let bound = series.strip_prefix(&prefix)?;
            Some((bound.replace('+', "").parse().ok()?, value))
        });
        let mut buckets: Vec<(f64, f64)> = buckets.collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }
}

fn name_of(series: &str) -> &str {
    series.split(' ').next().unwrap_or_default()
}

fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|it| is_letter(it) || it.is_ascii_digit())
}

/// Reads what stands behind the brace.
fn labels_of(mut text: &str) -> Result<Vec<(String, String)>, String> {
    let mut labels: Vec<(String, String)> = Vec::new();
    loop {
        let (name, rest) = text.split_once("=\"").ok_or("a label without a value")?;
        let is_new = labels.iter().all(|(other, _)| other != name);
        (is_name(name) && is_new)
            .then_some(())
            .ok_or("not a new label")?;
        let mut value = String::new();
        let mut rest = rest.chars();
        loop {
            match rest.next().ok_or("a value without an end")? {
                '"' => break,
                '\\' => value.push(match rest.next() {
                    Some('n') => '\n',
                    Some(it @ ('\\' | '"')) => it,
                    _ => return Err("not an escape".to_owned()),
                }),
                it => value.push(it),
            }
        }
        labels.push((name.to_owned(), value));
        match rest.next() {
            Some(',') => text = rest.as_str(),
            Some('}') if rest.as_str().is_empty() => return Ok(labels),
            _ => return Err("neither a comma nor the end of the labels".to_owned()),
        }
    }
}

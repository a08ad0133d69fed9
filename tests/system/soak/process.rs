//! What the gateway's process holds, read from `/proc`.

use std::fmt;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// After everybody left: lingering connections (2 s), idle workers (2 s), callbacks that hang
/// (5 s), and the noise of the host.
const BACK: Duration = Duration::from_secs(20);
/// What the allocator may keep of a crowd that has left, in KiB. Each worker's thread has had an
/// arena, of which glibc gives back what lies at its top and keeps the rest for the next: up to
/// 33 MiB were seen behind half an hour. What grows with the length of a soak passes this.
const KEPT: usize = 40 * 1024;
/// Kernel ticks in a second of CPU time, on every Linux that matters.
const TICKS: f32 = 100.0;

pub(crate) struct Process {
    pid: u32,
    start: Instant,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    /// Proportional set size, in KiB.
    pub(crate) pss: usize,
    /// User and system time so far.
    cpu: f32,
    /// Since the gateway was first looked at.
    elapsed: f32,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "fds={} threads={} pss={}KiB cpu={:.2}s ({:.0}%)",
            self.descriptors,
            self.threads,
            self.pss,
            self.cpu,
            100.0 * self.cpu / self.elapsed.max(0.01)
        )
    }
}

impl Process {
    pub(crate) fn of(pid: u32) -> Process {
        Process {
            pid,
            start: Instant::now(),
        }
    }

    fn read(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.pid);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn number(&self, name: &str, field: &str) -> usize {
        let text = self.read(name);
        let line = text.lines().find(|line| line.starts_with(field));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        number.unwrap_or_else(|| panic!("no {field} in {text}"))
    }

    pub(crate) fn sample(&self) -> Sample {
        let stat = self.read("stat");
        // Behind the name, which may hold anything: utime and stime are fields 14 and 15.
        let (_, rest) = stat.rsplit_once(')').expect("a name");
        let fields: Vec<f32> = rest
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0.0))
            .collect();
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid));
        Sample {
            descriptors: descriptors.expect("a process").count(),
            threads: self.number("status", "Threads:"),
            pss: self.number("smaps_rollup", "Pss:"),
            cpu: (fields[11] + fields[12]) / TICKS,
            elapsed: self.start.elapsed().as_secs_f32(),
        }
    }

    /// The process before anybody came: as often the same as lingering may last.
    pub(crate) fn settled(&self) -> Sample {
        let mut last = self.sample();
        let mut same = 0;
        while same < 25 {
            thread::park_timeout(Duration::from_millis(100));
            let next = self.sample();
            let is_same = (next.descriptors, next.threads) == (last.descriptors, last.threads);
            same = if is_same { same + 1 } else { 0 };
            last = next;
        }
        last
    }

    /// Waits until descriptors and threads are back at `rest`; gives what they came to.
    pub(crate) fn wait_back_at(&self, rest: Sample) -> Sample {
        let start = Instant::now();
        loop {
            let now = self.sample();
            let is_back = now.descriptors <= rest.descriptors && now.threads <= rest.threads;
            if is_back || start.elapsed() > BACK {
                return now;
            }
            thread::park_timeout(Duration::from_millis(100));
        }
    }
}

/// The samples of a soak, in their order.
#[derive(Default)]
pub(crate) struct Curve(Vec<Sample>);

impl Curve {
    pub(crate) fn add(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// Memory and descriptors in the later half are those of the first, but for what differs in
    /// the load; after everybody left nothing is held but what the allocator keeps.
    ///
    /// `is_warm`: the first half has seen all there is to see, so that nothing is new in the later.
    pub(crate) fn assert_flat(&self, end: &Sample, rest: &Sample, is_warm: bool) {
        assert_eq!(end.descriptors, rest.descriptors, "descriptors at the end");
        assert_eq!(end.threads, rest.threads, "threads at the end");
        println!("pss: {} KiB at rest, {} KiB at the end", rest.pss, end.pss);
        assert!(end.pss <= rest.pss + KEPT, "memory at the end");
        let (first, later) = self.0.split_at(self.0.len() / 2);
        assert!(first.len() >= 2, "{} samples make no curve", self.0.len());
        let largest =
            |half: &[Sample], of: fn(&Sample) -> usize| half.iter().map(of).max().expect("samples");
        let (before, after) = (largest(first, |s| s.pss), largest(later, |s| s.pss));
        println!("largest pss: first half {before} KiB, later half {after} KiB");
        let slack = if is_warm { before / 4 + 2048 } else { KEPT };
        assert!(after <= before + slack, "memory grows");
        let of = |half| largest(half, |s| s.descriptors);
        let (before, after) = (of(first), of(later));
        println!("most descriptors: first half {before}, later half {after}");
        assert!(after <= before + before / 2 + 50, "descriptors grow");
    }
}

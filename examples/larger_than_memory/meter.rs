//! The memory of the process, measured and drawn.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::Outcome;
use crate::plan::Plan;

/// The resident memory of this process, in bytes.
pub(crate) fn resident() -> u64 {
    let mut text = String::new();
    let read = File::open("/proc/self/status").and_then(|mut file| file.read_to_string(&mut text));
    let line = read.ok().and_then(|_| text.lines().find(|line| line.starts_with("VmRSS:")));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Measures the memory of the process now and then, and appends it to a file.
pub(crate) struct Meter {
    ends: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Meter {
    pub(crate) fn start(plan: &Plan, part: &str) -> std::io::Result<Self> {
        let mut file =
            OpenOptions::new().append(true).create(true).open(plan.store.join("memory"))?;
        let (ends, part) = (Arc::new(AtomicBool::new(false)), part.to_owned());
        let flag = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                // What is not written is not drawn.
                let _ = writeln!(file, "{part} {}", resident());
                thread::sleep(Duration::from_millis(100));
            }
        });
        Ok(Self { ends, thread: Some(thread) })
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Draws the memory over time, and answers the most that was seen under the limit.
pub(crate) fn draw(store: &Path, limit: u64) -> Outcome<u64> {
    const BARS: [char; 8] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇'];
    const FULL: char = '█';
    const WIDTH: usize = 72;
    let text = std::fs::read_to_string(store.join("memory"))?;
    let samples: Vec<(&str, u64)> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(part, bytes)| Some((part, bytes.parse().ok()?)))
        .collect();
    let mut most = 0;
    println!("resident memory, each sign {} ms or more; a full block is the limit", 100);
    let mut parts: Vec<&str> = samples.iter().map(|sample| sample.0).collect();
    parts.dedup();
    for part in parts {
        let of_part: Vec<u64> =
            samples.iter().filter(|sample| sample.0 == part).map(|sample| sample.1).collect();
        let peak = of_part.iter().copied().max().unwrap_or(0);
        let chunk = of_part.len().div_ceil(WIDTH).max(1);
        let bar = |chunk: &[u64]| {
            let bytes = chunk.iter().copied().max().unwrap_or(0);
            usize::try_from(bytes * 8 / limit).ok().and_then(|at| BARS.get(at)).unwrap_or(&FULL)
        };
        let line: String = of_part.chunks(chunk).map(bar).collect();
        println!(
            "  {part:<9} |{line}| {} MiB at most, {}% of the limit",
            peak >> 20,
            peak * 100 / limit
        );
        if part != "unlimited" {
            most = most.max(peak);
        }
    }
    Ok(most)
}

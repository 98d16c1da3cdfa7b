//! Time and processor time.

use std::time::{Duration, Instant};

/// What a piece of work cost.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    /// On the clock.
    pub(crate) elapsed: Duration,
    /// Of all cores, by the process that was watched.
    pub(crate) cpu: Duration,
}

impl Cost {
    /// Bytes a second.
    pub(crate) fn rate(&self, bytes: u64) -> f64 {
        bytes as f64 / self.elapsed.as_secs_f64()
    }

    /// Processor seconds for 10⁹ bytes.
    pub(crate) fn cpu_per_gb(&self, bytes: u64) -> f64 {
        self.cpu.as_secs_f64() / (bytes as f64 / 1e9)
    }

    /// `1.23 GB/s, 0.45 CPU-s/GB`.
    pub(crate) fn tell(&self, bytes: u64) -> String {
        format!("{:.2} GB/s, {:.2} CPU-s/GB", self.rate(bytes) / 1e9, self.cpu_per_gb(bytes))
    }
}

/// Measures work done in this process.
pub(crate) fn measured<T>(work: impl FnOnce() -> T) -> (Cost, T) {
    let (start, cpu) = (Instant::now(), cpu_of("self"));
    let result = work();
    (Cost { elapsed: start.elapsed(), cpu: cpu_of("self").saturating_sub(cpu) }, result)
}

/// User and system time of a process so far, from `/proc` (in ticks of 10 ms).
pub(crate) fn cpu_of(process: &str) -> Duration {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { return Duration::ZERO };
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|&at| fields.get(at)?.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// What a process holds in memory: now and at its peak, in bytes.
pub(crate) fn memory_of(process: &str) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    (field("VmRSS:").unwrap_or(0), field("VmHWM:").unwrap_or(0))
}

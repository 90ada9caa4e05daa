//! A distribution of durations, in the form that Prometheus reads.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, from a message to a small room up to a server that cannot keep up.
const BOUNDS: [Duration; 15] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
];

/// A distribution of durations. An observation takes no lock.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// The observations in each bucket alone. The last bucket has no bound.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_nanos: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < duration);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Appends the histogram in the Prometheus text format, where a bucket includes all smaller ones.
    pub(super) fn write(&self, out: &mut String, name: &str, help: &str) {
        // Writing to a string cannot fail.
        write!(
            out,
            "# HELP wscast_{name} {help}\n# TYPE wscast_{name} histogram\n"
        )
        .ok();
        let mut count = 0;
        let bounds = BOUNDS.map(|bound| bound.as_secs_f64().to_string());
        let bounds = bounds.into_iter().chain(["+Inf".to_owned()]);
        for (bound, bucket) in bounds.zip(&self.buckets) {
            count += bucket.load(Ordering::Relaxed);
            writeln!(out, "wscast_{name}_bucket{{le=\"{bound}\"}} {count}").ok();
        }
        let sum = Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)).as_secs_f64();
        // The same count as in the last bucket, even while another thread observes.
        write!(
            out,
            "wscast_{name}_sum {sum}\nwscast_{name}_count {count}\n"
        )
        .ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_includes_its_bound_and_all_smaller_buckets() {
        let histogram = Histogram::default();
        for micros in [10, 50, 51, 2_500, 9_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut text = String::new();
        histogram.write(&mut text, "x_seconds", "Help");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "# HELP wscast_x_seconds Help");
        assert_eq!(lines[1], "# TYPE wscast_x_seconds histogram");
        for line in [
            r#"wscast_x_seconds_bucket{le="0.00005"} 2"#,
            r#"wscast_x_seconds_bucket{le="0.0001"} 3"#,
            r#"wscast_x_seconds_bucket{le="0.001"} 3"#,
            r#"wscast_x_seconds_bucket{le="0.0025"} 4"#,
            r#"wscast_x_seconds_bucket{le="2.5"} 4"#,
            r#"wscast_x_seconds_bucket{le="+Inf"} 5"#,
            "wscast_x_seconds_sum 9.002611",
            "wscast_x_seconds_count 5",
        ] {
            assert!(lines.contains(&line), "{line} is not in {text}");
        }
    }
}

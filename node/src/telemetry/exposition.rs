//! The two text formats of /metrics. The registry writes OpenMetrics 1.0; older scrapers get the Prometheus text
//! format 0.0.4 made from it. Pure text work; `api/http.rs` calls it through `Metrics::render`.

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// `application/openmetrics-text; version=1.0.0`
    OpenMetrics,
    /// `text/plain; version=0.0.4`
    Prometheus,
}

impl Exposition {
    /// The format for an HTTP `Accept` header: OpenMetrics for those that ask for it, else the Prometheus text format.
    pub fn negotiate(accept: &str) -> Self {
        let wants = |part: &str| {
            let mut words = part.split(';').map(str::trim);
            let refused = |word: &str| word.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32));
            words.next() == Some("application/openmetrics-text") && !words.any(refused)
        };
        if accept.split(',').any(wants) { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The answer's `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Turns OpenMetrics text into the asked format.
pub(super) fn finish(open_metrics: String, exposition: Exposition) -> String {
    match exposition {
        Exposition::OpenMetrics => open_metrics,
        Exposition::Prometheus => to_prometheus(&open_metrics),
    }
}

/// In 0.0.4 a family is named like its samples: `x_total` where OpenMetrics says `x`, and there are no infos.
fn to_prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(help) = line.strip_prefix("# HELP ") else {
            if !line.starts_with("# UNIT ") && line != "# EOF" {
                text.push_str(line);
                text.push('\n');
            }
            continue;
        };
        // The type decides the family's name, and it comes one line later.
        let kind = lines.next_if(|next| next.starts_with("# TYPE ")).and_then(|next| next.rsplit(' ').next());
        let (name, help) = help.split_once(' ').unwrap_or((help, ""));
        let (suffix, kind) = match kind {
            Some("counter") => ("_total", "counter"),
            Some("info") => ("_info", "gauge"),
            Some("unknown") | None => ("", "untyped"),
            Some(other) => ("", other),
        };
        text.push_str(&format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_ask() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        assert_eq!(Exposition::negotiate(prometheus), Exposition::OpenMetrics);
        for accept in ["", "*/*", "text/plain;version=0.0.4", "application/openmetrics-text;q=0, text/plain"] {
            assert_eq!(Exposition::negotiate(accept), Exposition::Prometheus, "{accept}");
        }
    }

    #[test]
    fn the_old_format_names_families_like_their_samples() {
        let open = "# HELP a Things.\n# TYPE a counter\na_total 1\n# HELP b_info B.\n# TYPE b info\nb_info{v=\"1\"} 1\n\
                    # HELP c_seconds C.\n# TYPE c_seconds gauge\n# UNIT c_seconds seconds\nc_seconds 2.0\n# EOF\n";
        let open = open.replace("# HELP b_info", "# HELP b");
        let want = "# HELP a_total Things.\n# TYPE a_total counter\na_total 1\n# HELP b_info B.\n# TYPE b_info gauge\n\
                    b_info{v=\"1\"} 1\n# HELP c_seconds C.\n# TYPE c_seconds gauge\nc_seconds 2.0\n";
        assert_eq!(finish(open, Exposition::Prometheus), want);
    }
}

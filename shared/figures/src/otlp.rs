//! The page as OTLP has it: the few messages of `opentelemetry/proto/metrics/v1` and `…/collector/metrics/v1` (1.x, whose
//! field numbers are frozen) that gauges need.

use jiff::Timestamp;
use prost::Message;

use crate::page::{Family, Page};

/// Who sends: the attributes by which a collector tells programs apart.
#[derive(Clone, Debug)]
pub struct Resource {
    /// `service.name`: the program, such as `trunkline-edge`.
    pub service: &'static str,
    /// `service.instance.id`: which of them, such as the box's id.
    pub instance: String,
    /// `service.version`.
    pub version: String,
}

impl Page {
    /// Returns it as the body of an OTLP request (`ExportMetricsServiceRequest`), taken at this moment.
    pub fn otlp(&self, who: &Resource, at: Timestamp) -> Vec<u8> {
        let attributes = [
            ("service.name", who.service),
            ("service.instance.id", &who.instance),
            ("service.version", &who.version),
        ];
        let nanos = u64::try_from(at.as_nanosecond()).unwrap_or(0);
        let scope = Scope { name: "trunkline".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let metrics = self.families.iter().filter(|family| !family.values.is_empty());
        let metrics = metrics.map(|family| metric(family, nanos)).collect();
        let request = Request {
            resources: vec![OfResource {
                resource: Some(Attributes {
                    attributes: attributes.map(|(key, value)| KeyValue::new(key, value)).to_vec(),
                }),
                scopes: vec![OfScope { scope: Some(scope), metrics }],
            }],
        };
        request.encode_to_vec()
    }
}

fn metric(family: &Family, nanos: u64) -> Metric {
    let label = |value: &str| match family.label {
        "" => vec![],
        label => vec![KeyValue::new(label, value)],
    };
    let points = family.values.iter();
    let points =
        points.map(|(value, figure)| Point { nanos, figure: Some(*figure), attributes: label(value) });
    Metric {
        name: family.name.to_owned(),
        description: family.help.to_owned(),
        unit: family.unit().to_owned(),
        gauge: Some(Gauge { points: points.collect() }),
    }
}

/// What a collector says of a request that it took in part (`ExportMetricsServiceResponse`): how many figures it did not
/// take, and why. `None` when it took all, or says nothing that can be read.
pub(crate) fn left_out(response: &[u8]) -> Option<(i64, String)> {
    let partial = Response::decode(response).ok()?.partial?;
    (partial.rejected > 0).then_some((partial.rejected, partial.message))
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<OfResource>,
}

#[derive(Clone, PartialEq, Message)]
struct OfResource {
    #[prost(message, optional, tag = "1")]
    resource: Option<Attributes>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<OfScope>,
}

#[derive(Clone, PartialEq, Message)]
struct Attributes {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct OfScope {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    description: String,
    #[prost(string, tag = "3")]
    unit: String,
    #[prost(message, optional, tag = "5")]
    gauge: Option<Gauge>,
}

#[derive(Clone, PartialEq, Message)]
struct Gauge {
    #[prost(message, repeated, tag = "1")]
    points: Vec<Point>,
}

#[derive(Clone, PartialEq, Message)]
struct Point {
    #[prost(fixed64, tag = "3")]
    nanos: u64,
    /// One of a choice, so that 0 is written too.
    #[prost(double, optional, tag = "4")]
    figure: Option<f64>,
    #[prost(message, repeated, tag = "7")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Text>,
}

impl KeyValue {
    fn new(key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), value: Some(Text { text: Some(value.to_owned()) }) }
    }
}

/// `AnyValue`, of which only texts are used.
#[derive(Clone, PartialEq, Message)]
struct Text {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial: Option<Partial>,
}

#[derive(Clone, PartialEq, Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_two_forms_hold_the_same_figures() {
        let mut page = Page::default();
        page.family("x_free_bytes", "Room.", "of", [("disk", Some(2_097_152.0)), ("memory", None)]);
        page.figure("x_up", "It runs.", Some(0.0));
        page.family("x_calls", "Calls.", "state", [("under_way", Some(3.0)), ("channels", Some(4.0))]);
        page.figure("x_unknown", "Unknown.", None);
        let who = Resource { service: "x", instance: "tl-a".into(), version: "1.2.3".into() };
        let read = Request::decode(page.otlp(&who, Timestamp::UNIX_EPOCH).as_slice()).unwrap();
        let metrics = &read.resources[0].scopes[0].metrics;
        let mut lines = Vec::new();
        for metric in metrics {
            for point in &metric.gauge.as_ref().unwrap().points {
                let label = point.attributes.iter().map(|label| {
                    let text = label.value.as_ref().unwrap().text.as_ref().unwrap();
                    format!("{{{}=\"{text}\"}}", label.key)
                });
                lines.push(format!("{}{} {}", metric.name, label.collect::<String>(), point.figure.unwrap()));
            }
        }
        let text = page.prometheus();
        let figures: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, figures);
        assert_eq!(metrics[0].unit, "By");
        assert_eq!(metrics[1].unit, "");
    }

    #[test]
    fn what_a_collector_left_out_is_read_and_its_silence_is_none() {
        let partial = Partial { rejected: 3, message: "too old".into() };
        let response = Response { partial: Some(partial) }.encode_to_vec();
        assert_eq!(left_out(&response), Some((3, "too old".to_owned())));
        assert_eq!(left_out(b""), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader_of_answers(bytes: Vec<u8>) {
            let _ = left_out(&bytes);
        }
    }
}

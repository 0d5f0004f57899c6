//! An event in the form that receivers know: CloudEvents 1.0, structured mode.

use amends::sink::Delivered;
use chrono::SecondsFormat;
use serde::Serialize;

/// The media type of one event in structured mode.
pub(super) const MEDIA_TYPE: &str = "application/cloudevents+json";

/// Everything but the data, which stays the bytes that were recorded.
#[derive(Serialize)]
struct Envelope<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    r#type: String,
    subject: &'a str,
    time: String,
    datacontenttype: &'static str,
    sequence: String,
}

/// The event as JSON. `sequence` is padded, so that comparing it as text is comparing numbers.
pub(super) fn cloud_event(event: &Delivered<'_>) -> Result<String, serde_json::Error> {
    let envelope = Envelope {
        specversion: "1.0",
        id: event.id,
        source: format!("/amends/{}", event.workflow),
        r#type: format!("com.amends.{}.{}", event.workflow, event.kind).to_ascii_lowercase(),
        subject: event.key,
        time: event.at.to_rfc3339_opts(SecondsFormat::Micros, true),
        datacontenttype: "application/json",
        sequence: format!("{:010}", event.number),
    };
    let mut json = serde_json::to_string(&envelope)?;
    // The data takes the place of the envelope's closing brace.
    json.pop();
    json.push_str(",\"data\":");
    json.push_str(event.data);
    json.push('}');
    Ok(json)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_event_has_every_attribute_and_its_data_to_the_byte() {
        let data = r#"{"amount_minor": 5990,  "note":"\u00e9 } "}"#;
        let event = Delivered {
            id: "0190a6f4/7",
            kind: "PAYMENT_CONFIRMED",
            workflow: "fulfilment",
            key: "acme/\"1\"",
            instance_id: Uuid::nil(),
            number: 7,
            at: DateTime::UNIX_EPOCH,
            data,
        };
        let json = cloud_event(&event).expect("JSON");
        assert!(json.ends_with(&format!("\"data\":{data}}}")));
        let parsed: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(
            parsed,
            json!({
                "specversion": "1.0",
                "id": "0190a6f4/7",
                "source": "/amends/fulfilment",
                "type": "com.amends.fulfilment.payment_confirmed",
                "subject": "acme/\"1\"",
                "time": "1970-01-01T00:00:00.000000Z",
                "datacontenttype": "application/json",
                "sequence": "0000000007",
                "data": {"amount_minor": 5990, "note": "é } "},
            })
        );
    }
}

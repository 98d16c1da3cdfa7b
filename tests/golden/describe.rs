//! Describes a batch in the words of `Golden.java`, so that two sides agree when their texts are the same.

use aqueduct_record::{Batch, BatchError, Control, Record, TimestampType, control_kind, crc32c};

/// The description of `batch`, as `Golden describe` prints it.
pub(crate) fn describe(batch: &Batch) -> Result<String, BatchError> {
    let header = batch.header();
    let attributes = header.attributes;
    let records: Vec<String> = batch
        .records()?
        .iter()
        .map(|record| record.map(|record| describe_record(&record, attributes.is_control())))
        .collect::<Result<_, _>>()?;
    let timestamp_type = match attributes.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    };
    Ok(format!(
        "{{\"base_offset\":{},\"last_offset\":{},\"leader_epoch\":{},\"size\":{},\"count\":{},\n \
         \"compression\":\"{}\",\"timestamp_type\":\"{}\",\"transactional\":{},\"control\":{},\"delete_horizon\":{},\n \
         \"base_timestamp\":{},\"max_timestamp\":{},\"producer_id\":{},\"producer_epoch\":{},\"base_sequence\":{},\n \
         \"records\":[{}]}}\n",
        batch.base_offset(),
        batch.last_offset(),
        batch.leader_epoch(),
        batch.size(),
        batch.count(),
        attributes.compression(),
        timestamp_type,
        attributes.is_transactional(),
        attributes.is_control(),
        header.delete_horizon().map_or("null".to_owned(), |horizon| horizon.to_string()),
        header.base_timestamp,
        header.max_timestamp,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        records.join(","),
    ))
}

fn describe_record(record: &Record<'_>, control: bool) -> String {
    let headers: Vec<String> =
        record.headers.iter().map(|(name, value)| format!("[\"{name}\",{}]", text(value))).collect();
    let control = match control.then(|| control_kind(record)).flatten() {
        None => String::new(),
        Some(Control::Abort) => ",\"control\":0".to_owned(),
        Some(Control::Commit) => ",\"control\":1".to_owned(),
        Some(Control::Other(kind)) => format!(",\"control\":{kind}"),
    };
    format!(
        "\n  {{\"offset\":{},\"timestamp\":{},\"key\":{},\"value\":{},\"headers\":[{}]{control}}}",
        record.offset,
        record.timestamp,
        text(record.key),
        text(record.value),
        headers.join(","),
    )
}

fn text(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "null".to_owned(),
        Some(long) if long.len() > 64 => format!("\"{} bytes, crc {:08x}\"", long.len(), crc32c(long)),
        Some(short) => format!("\"{}\"", short.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

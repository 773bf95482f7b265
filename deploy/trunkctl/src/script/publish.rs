//! `trunkctl script publish`: scripts on their way to a cloud.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Answer, pretty, read};
use crate::boxes::{Cloud, block_on};

pub(super) fn publish(cloud: &Cloud, files: &[PathBuf]) -> Result<Answer> {
    let api = cloud.connect()?;
    let (mut page, mut list, mut good) = (String::new(), Vec::new(), true);
    block_on(async {
        for file in files {
            let text =
                String::from_utf8(read(file)?).with_context(|| format!("{} is not UTF-8", file.display()))?;
            let (status, answer) = api.send("/v1/scripts", "application/yaml", text).await?;
            good &= published(&mut page, file, status, &answer)?;
            list.push(json!({ "file": file, "status": status, "answer": answer }));
        }
        Ok(())
    })?;
    Ok(Answer { page: if cloud.json { pretty(&list)? } else { page }, good })
}

/// Writes down what became of a file. A refusal that is not about the script is an error.
fn published(page: &mut String, file: &Path, status: u16, answer: &Value) -> Result<bool> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let file = file.display();
    for finding in answer["findings"].as_array().into_iter().flatten() {
        page.push_str(&format!(
            "{file}:{}:{}: {}[{}]: {}; {}\n",
            finding["line"],
            finding["column"],
            text(&finding["severity"]),
            text(&finding["code"]),
            text(&finding["message"]),
            text(&finding["remedy"])
        ));
    }
    match status {
        200 | 201 => {
            let state = if status == 201 { "published" } else { "published before" };
            page.push_str(&format!(
                "{file}: {state} as {}, version {}\n",
                text(&answer["id"]),
                text(&answer["version"])
            ));
            Ok(true)
        }
        413 | 422 => {
            page.push_str(&format!("{file}: refused, {}\n", text(&answer["detail"])));
            Ok(false)
        }
        _ => bail!("the cloud refused ({status} {}): {}", text(&answer["code"]), text(&answer["detail"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_script_shows_every_finding_and_another_refusal_is_an_error() {
        let finding = json!({
            "code": "unreachable", "severity": "error", "line": 7, "column": 3,
            "message": "node `x` is never reached", "remedy": "remove it",
        });
        let answer = json!({ "findings": [finding], "detail": "the script has 1 error(s)" });
        let mut page = String::new();
        assert!(!published(&mut page, Path::new("a.yaml"), 422, &answer).unwrap());
        assert_eq!(
            page,
            "a.yaml:7:3: error[unreachable]: node `x` is never reached; remove it\n\
             a.yaml: refused, the script has 1 error(s)\n"
        );
        let forbidden = json!({ "code": "scope_missing", "detail": "no" });
        assert!(published(&mut page, Path::new("a.yaml"), 403, &forbidden).is_err());
    }
}

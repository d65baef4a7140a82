//! The host of a registry or another server, with its port, as the grammar in `reference` has it.

use crate::letters::{name_of, Fault, Part};

/// Checks a registry host with its port.
pub fn check_domain(domain: Part) -> Result<String, Fault> {
    let host = if domain.letters.first().map(|letter| letter.character) == Some('[') {
        let close = domain.find(|letter| letter.character == ']').ok_or_else(|| {
            Fault::at(domain.start(), "the bracket of an IPv6 address is not closed by \"]\"")
        })?;
        let (before, port) = domain.split_at(close);
        let address = Part::new(&before.letters[1..], before.end);
        if address.is_empty() {
            return Err(Fault::at(
                address.start(),
                "the IPv6 address is missing between \"[\" and \"]\"",
            ));
        }
        address.only(
            |character| character.is_ascii_hexdigit() || character == ':',
            "an IPv6 address consists of hexadecimal digits and \":\"; this one",
        )?;
        if let Some(colon) = port.letters.first() {
            if colon.character != ':' {
                return Err(Fault::at(
                    colon.position,
                    format!(
                        "only \":\" and a port may follow \"]\", not {}",
                        name_of(colon.character)
                    ),
                ));
            }
            check_port(Part::new(&port.letters[1..], port.end))?;
        }
        return Ok(domain.text());
    } else if let Some((host, port)) = domain.cut(':') {
        check_port(port)?;
        host
    } else {
        domain
    };
    for component in host.split('.') {
        component.only(
            |character| character.is_ascii_alphanumeric() || character == '-',
            "a registry host consists of letters, digits, \"-\" and \".\"; this one",
        )?;
        let ends = (component.letters.first(), component.letters.last());
        match ends {
            (Some(first), Some(last)) => {
                for end in [first, last] {
                    if end.character == '-' {
                        return Err(Fault::at(
                            end.position,
                            "no part of a registry host may begin or end with \"-\"",
                        ));
                    }
                }
            }
            _ => return Err(Fault::at(component.start(), "a part of the registry host is empty")),
        }
    }
    Ok(domain.text())
}

fn check_port(port: Part) -> Result<(), Fault> {
    if port.is_empty() {
        return Err(Fault::at(port.start(), "the port is missing after \":\""));
    }
    port.only(|character| character.is_ascii_digit(), "a port consists of digits; this one")
}

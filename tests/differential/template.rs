//! How a template is taken apart.

/// The length of the word, placeholder or group at the start.
pub fn part_len(template: &[u8]) -> usize {
    let close = match template[0] {
        b'{' => b'}',
        b'[' => b']',
        b'(' => b')',
        _ => {
            return template
                .iter()
                .position(|byte| matches!(byte, b' ' | b'+'))
                .unwrap_or(template.len());
        }
    };
    let mut depth = 0;
    for (index, byte) in template.iter().enumerate() {
        if *byte == template[0] {
            depth += 1;
        } else if *byte == close {
            depth -= 1;
        }
        if depth == 0 {
            return index + 1;
        }
    }
    panic!("a template's group isn't closed");
}

/// Splits at `|`, but not inside groups.
pub fn alternatives(group: &[u8]) -> Vec<&[u8]> {
    let (mut choices, mut depth, mut start) = (Vec::new(), 0, 0);
    for (index, byte) in group.iter().enumerate() {
        match byte {
            b'[' | b'(' => depth += 1,
            b']' | b')' => depth -= 1,
            b'|' if depth == 0 => {
                choices.push(&group[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    choices.push(&group[start..]);
    choices
}

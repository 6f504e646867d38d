use super::*;

fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

fn labels(text: &str) -> Vec<String> {
    let packet = Packet::parse(text).unwrap();
    packet.labels().map(str::to_owned).collect()
}

/// The same packet with this content of its RDF.
fn packet(rdf: &str) -> String {
    format!(
        "<?xpacket begin='\u{feff}' id='W5M0MpCehiHzreSzNTczkc9d'?>\n<x:xmpmeta \
         xmlns:x='{META}'>\n<rdf:RDF xmlns:rdf='{RDF}'>{rdf}</rdf:RDF>\n</x:xmpmeta>\n\
         <?xpacket end='w'?>"
    )
}

fn subject(list: &str) -> String {
    packet(&format!(
        "\n <rdf:Description rdf:about='' xmlns:dc='{DC}'>\n  <dc:subject>{list}</dc:subject>\n \
         </rdf:Description>\n"
    ))
}

#[test]
fn labels_are_added_and_taken_back_byte_for_byte() {
    let other = "\n <rdf:Description rdf:about='uuid:\"1\"' \
        xmlns:xmp='http://ns.adobe.com/xap/1.0/' xmp:Rating='4'/>\n";
    let cases = [
        (
            subject("\n   <rdf:Bag>\n    <rdf:li>old</rdf:li>\n   </rdf:Bag>\n  "),
            1,
        ),
        (
            subject("<rdf:Seq><rdf:li xml:lang='x'>old</rdf:li></rdf:Seq>"),
            1,
        ),
        (
            subject("<rdf:Bag><rdf:li>a &amp; &#98;</rdf:li></rdf:Bag>"),
            1,
        ),
        (subject("<rdf:Bag></rdf:Bag>"), 0),
        (subject("<rdf:Bag />"), 0),
        (packet(other), 0),
        (packet(""), 0),
        (format!("\u{feff}<RDF xmlns='{RDF}'>\r\n</RDF>"), 0),
        (fresh(&owned(&["old"])), 1),
    ];
    let added = owned(&["a <cat>", "dog & \"x\""]);
    for (before, count) in cases {
        let packet = Packet::parse(&before).unwrap();
        assert_eq!(packet.labels().count(), count, "{before}");
        assert_eq!(packet.missing(&added), added);
        let edit = packet.adding(&added);
        let after = edit.applied(&before).unwrap();
        let found = labels(&after);
        assert_eq!(&found[count..], added, "{after}");
        assert_eq!(found[..count], labels(&before), "{after}");
        assert!(Packet::parse(&after).unwrap().missing(&added).is_empty());
        assert_eq!(edit.reverted(&after).unwrap(), before);
        let removed = Packet::parse(&after).unwrap().without(&added).unwrap();
        assert_eq!(labels(&removed), labels(&before), "{removed}");
        if count > 0 {
            assert_eq!(removed, before);
        }
        assert_eq!(edit.applied("short"), None);
    }
    let about = Packet::parse(&packet(other)).unwrap().adding(&added).new;
    assert!(
        about.contains("rdf:about=\"uuid:&quot;1&quot;\""),
        "{about}"
    );
}

#[test]
fn entities_and_spaces_are_those_of_the_text() {
    let list = "<rdf:Bag><rdf:li> a &lt;b&gt; &#x63;<![CDATA[ & d]]> </rdf:li><rdf:li/></rdf:Bag>";
    assert_eq!(labels(&subject(list)), ["a <b> c & d", ""]);
    // Another dc:subject, of something within the image, is not the image's.
    let nested = format!(
        "<rdf:Description xmlns:dc='{DC}' xmlns:a='a'><a:b><dc:subject>x</dc:subject></a:b>\
         </rdf:Description>"
    );
    assert!(labels(&packet(&nested)).is_empty());
}

#[test]
fn what_is_not_understood_is_refused() {
    let twice = subject("<rdf:Bag/>").replace(
        "</rdf:RDF>",
        &format!(
            "<rdf:Description xmlns:dc='{DC}'><dc:subject><rdf:Bag/></dc:subject>\
             </rdf:Description></rdf:RDF>"
        ),
    );
    let whole = subject("<rdf:Bag><rdf:li>x</rdf:li></rdf:Bag>");
    let cases = [
        (String::new(), "no rdf:RDF"),
        ("text".to_owned(), "text outside"),
        ("<html/>".to_owned(), "a <html> outside of it"),
        (whole[..whole.len() - 60].to_owned(), ""),
        (whole.replace("</rdf:li>", "</rdf:lj>"), "not XML"),
        (
            whole.replace("<?xpacket begin", "<!DOCTYPE x><?x"),
            "document type",
        ),
        (whole.clone() + &whole, "outside of it"),
        (
            format!("<?xml version='1.0' encoding='latin1'?>{whole}"),
            "another encoding",
        ),
        (
            subject("<rdf:Bag><rdf:li>&x;</rdf:li></rdf:Bag>"),
            "unknown entity",
        ),
        (
            subject("<rdf:Bag><rdf:li><a/></rdf:li></rdf:Bag>"),
            "not a plain list",
        ),
        (subject("<rdf:Bag/><rdf:Bag/>"), "not a plain list"),
        (subject("<rdf:Bag>x</rdf:Bag>"), "text in it"),
        (subject("x"), "text in it"),
        (subject(""), "not a list"),
        (twice, "two of dc:subject"),
        (
            packet(&format!(
                "<rdf:Description xmlns:dc='{DC}' dc:subject='x'/>"
            )),
            "is an attribute",
        ),
        (packet("<rdf:Description a=1/>"), "not XML"),
        (format!("<rdf:RDF xmlns:rdf='{RDF}'/>"), "is empty"),
    ];
    for (text, expected) in cases {
        let error = match Packet::parse(&text) {
            Ok(_) => panic!("{text}"),
            Err(error) => format!("{error:#}"),
        };
        assert!(error.contains(expected), "{error}: {text}");
    }
}

"""The strings that tokens.py compares and turns into fixtures: written by hand, one idea each."""

SENTENCES = [
    "a photo of a cat.",
    "Un café très noir, servi à l’hôtel « Étoile » près de la forêt.",
    "Ein großer Hund läuft über die Straße – müde, aber glücklich.",
    "El niño comió una piña; ¿cuándo vuelve la señora Núñez?",
    "Às vezes a avó não vê o pão na mesa à tarde.",
    "Żółta łódź płynie po rzece Wiśle, a obok biegnie źrebię.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Őrült árvíztűrő tükörfúrógép a hegyekben.",
    "İstanbul'da güneşli bir gün, çocuklar ığdır elması yiyor.",
    "Большая собака спит на зелёном диване у окна.",
    "Їжак і ґава гуляють у лісі.",
    "Η γάτα κοιμάται δίπλα στο παράθυρο· ο ΣΚΎΛΟΣ όχι.",
    "חתול לבן ישן על ספה אדומה",
    "قطة بيضاء تنام على الأريكة",
    "एक सफ़ेद बिल्ली सो रही है",
    "แมวขาวนอนบนโซฟา",
    "一只白猫睡在红色的沙发上。",
    "白い猫が赤いソファで寝ている。ｶﾀｶﾅも。",
    "하얀 고양이가 빨간 소파에서 자고 있다",
    "Con mèo trắng ngủ trên ghế sô pha màu đỏ",
    "Ātrais brūnais āboliņš un šķērsiela; ėjo žąsų būrys",
    "Blåbærsyltetøy på grovt brød, smørgåsbord og ål",
    "It’s “quoted” text… with an em—dash, a bullet • and a trademark™",
    "£5 or €6? That’s ½ of ¥900 – ±3° at 20µm²",
    "👩‍👩‍👧 family, 🇫🇷 flag, 👍🏽 thumbs up, ❤️ heart",
]

FRAGMENTS = [
    "", " ", "'", "’", "‘", "“", "”", "'s", "’s", "'ſ", "'S", "'LL", "&", ";", "&amp;", "&amp", "&lt;", "&nbsp;",
    "&#39;", "&eacute;", "<", ">", "<|endoftext|>", "<|EndOfText|>", "<|startoftext|>", "<|ſtartoftext|>",
    "<start_of_text>", "\x1b[31m", "\x1b[0;1m", "\x1b[", "\x1b", "\x00", "\x07", "\x0b", "\x0c", "\x1c", "\x1f",
    "\x7f", "\x80", "\x85", "\x92", "\x9f", "\xa0", "\xad", "\u200b", "\u200d", "\u2028", "\u2029", "\u202e",
    "\u3000", "\ufeff", "\ufffd", "\ufffc", "\r\n", "\r", "\n", "\t", "é", "É", "e\u0301", "ü", "Ã©", "Ã", "Â",
    "â€™", "â€œ", "â€", "ÃƒÂ©", "Ð¿", "œ", "ﬁ", "ﬃ", "ﬅ", "Ĳ", "Ａ", "ｶﾞ", "￣", "１", "½", "²", "Ⅷ", "٣", "à",
    "°", "İ", "ß", "ẞ", "Σ", "ΑΣ", "ς", "K", "汉", "豈", "한", "한", "👍🏽", "🇫🇷", "ǅ", "ª", "0", "12", "a", "B", "_",
    "-", "...", "…", "!!", "ŉ", "Ω", "Å",
]

NESTED_ENTITIES = [
    "&amp;amp;amp;lt;", "<&amp;amp;amp;lt;", "a &lt; b &amp;&amp; c &gt; d", "<p>&amp;lt;b&amp;gt;</p>",
    "&amp;amp;amp;amp;amp;amp;eacute;", "<i>&amp;amp;eacute;", "&EACUTE;", "<&EACUTE;", "&NTILDE;o", "&frac14 b",
    "&notit; &notin; &not", "&ampamp;", "&&amp;;", "&#&#39;;", "&#;", "&#x;", "&#xG;", "&;", "& amp;", "AT&T",
    "R&D;", "rock &amp; roll", "rock &AMP; roll", "x&nbsp;&nbsp;y", "&Acirc;&copy; 2020", "caf&Atilde;&copy;",
    "one &lt;\ntwo <b> &amp;amp;amp;\nthree &amp;amp;amp;", "&amp;amp;amp;\n<\n&amp;amp;amp;",
    "&lsquo;a&rsquo; &ldquo;b&rdquo;", "&#8217;s", "&#x2019;s", "&amp;#8217;s", "&fflig;", "&ThickSpace;x", "&zwj;",
]

LABELS = [
    "", " ", "\n", "cat", "Dog", "golden retriever", "a photo of a {}.", "A Photo Of A CAT!", "it's a dog's life",
    "I'LL we've they're I'm he'd can't", "'sandwich 'train 'revolver 'll", "o'clock", "rock'n'roll", "''s ' s",
    "3 cats and 12 dogs in 2024", "1,234.5", "50% off!!!", "C++ vs. C#", "hello_world", "e-mail: a@b.example",
    "http://example.org/a?b=c#d", "...", "?!?!", "#hashtag @user", "a/b\\c", "(parentheses) [brackets] {braces}",
    "antidisestablishmentarianism", "pneumonoultramicroscopicsilicovolcanoconiosis", "zzzzzzzzzzzzzzzz",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "!" * 70, "-" * 90, "=" * 33,
    "tabby, tabby cat", "  many   blanks\t\tand\n\nlines  ", "line one\r\nline two\rline three",
    "form\ffeed", "vertical\vtab", "nul\x00in word", "bell\x07", "del\x7f", "\x1b[31mred\x1b[0m cat",
    "\x1b[1;32;40mgreen\x1b[0m", "\x1b]0;title\x07", "\ufeffcat", "soft\xadhyphen", "zero\u200bwidth", "no\xa0break",
    "ﬁne ﬂower ﬃ ﬅ ﬆ", "ＦＵＬＬ　ＷＩＤＴＨ １２３！", "ﾊﾝｶｸ ｶﾞ", "cafe\u0301", "ΣΊΣΥΦΟΣ", "ΟΔΟΣ. ΣΑΣ", "İSTANBUL", "STRASSE STRAẞE",
    "ǅungla", "it'ſ", "KELVIN", "x² + y³ = ½", "Ⅷ ⅷ", "٣٤٥", "१२३", "①②", "豈更車", "Å Ω", "한국어", "ＡＢＣ",
    "<|endoftext|>", "a <|endoftext|> b", "a<|endoftext|>b", "a!<|endoftext|>!b", "<|EndOfText|> <|STARTOFTEXT|>",
    "<|startoftext|>a cat<|endoftext|>", "<start_of_text>a cat<end_of_text>", "<|ſtartoftext|>", "<|pad|>",
    "cafÃ©", "itâ€™s", "â€œquotedâ€\x9d", "Ã©tÃ© Ã  la mer", "voilÃ  le travail", "Ã la mode", "ÃƒÂ©", "schÃ¶n", "naïve",
    "piÃ±ata", "ÐºÐ¾Ñ‚", "l\x92été", "5\x80", "so\x85", "MÃ¼nchen â€“ KÃ¶ln", "pi\xf1ata", "\x93quoted\x94", "Â£5", "20Â°C",
    "50€", "±5°", "«guillemets»", "„Gänsefüßchen“", "‚single‘", "`backtick`", "´acute´", "prime′ ″", "em—dash en–dash",
    "ellipsis…", "bullet • point", "†‡§¶", "™®©", "→←↑↓", "♥★☆", "😀😃", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇯🇵🇺🇸", "☕️", "a\u0308o\u0308", "q\u0307\u0323",
    "\u202eright to left\u202c", "ꙮ", "𝒳𝓎", "𝟘𝟙", "𐍈", "ሰላም", "ᏣᎳᎩ", "Ꭰ", "ა Ა", "ﷺ", "ﬀ", "№ 5", "℃", "㎏", "㍿", "ー々〆",
    "\u0345", "a\u0345b", "KÅ‚oczko", "RĂ©mi", "ą¹€ąø„", "Œ x", "é°s", "É°s", "&OELIG; x", "&GTDOT; x", "&DD;",
    "a&#24;b", "a&#11;b", "a&#xfdd0;b", "\x1b[Ａ", "a\U0003dae5b", "a\U000191afb", "\u0378", "\U0001094a", "\U0001e6c4", "\ua7da", "\u1c89", "\uffff", "\ue000",
]

CAPTIONS = [
    "The image shows a wooden table by a window, with a half-empty cup of coffee and an open book on it.",
    "In the foreground, two children in yellow raincoats jump into a puddle; behind them an old tram passes.",
    "A close-up of a bumblebee on a purple thistle. The background is out of focus, green and brown.",
    "Three sailing boats, one with a red sail, lie in the harbour at dusk. The sky is orange near the horizon.",
    "An aerial view of terraced rice fields: dozens of narrow, curved strips that reflect the morning sky.",
    "A cluttered desk. On it: a laptop, 4 pencils, a mug that says \"World's Best Dad\", and a sleeping cat.",
    "Street scene at night, lit by neon signs (mostly pink & blue); the pavement is wet, and nobody looks up.",
    "The dog's tail is blurred because it's wagging, but its eyes – dark, wide open – are sharp.",
    "A man in a grey suit, about 50 years old, holds an umbrella for a woman who's laughing.",
    "“Fresh fish daily”, says the hand-painted sign; below it, crates of ice and silver mackerel.",
]


def fixtures():
    """All committed cases."""
    yield from LABELS
    yield from SENTENCES
    yield from CAPTIONS
    yield " ".join(CAPTIONS)
    yield from NESTED_ENTITIES
    for fragment in FRAGMENTS:
        yield from (fragment, f"a{fragment}b", f"{fragment}'s é")
    for sentence in SENTENCES + CAPTIONS[:3]:
        yield sentence.upper()
        yield sentence.lower()
        for encoding in ("latin-1", "windows-1251", "macroman"):
            yield sentence.encode("utf-8").decode(encoding, errors="replace")
    for name in PLAIN_NOUNS:
        for template in ("a photo of a {}.", "a bad photo of the {}.", "{}s' {}", "A {}-LIKE thing, isn't it?", "{}{}"):
            yield template.replace("{}", name)


PLAIN_NOUNS = [
    "tench", "goldfish", "great white shark", "hen", "ostrich", "brambling", "bulbul", "jay", "water ouzel", "kite",
    "axolotl", "loggerhead", "Gila monster", "Komodo dragon", "hognose snake", "scorpion", "wallaby", "koala", "wombat",
    "jellyfish", "brain coral", "chambered nautilus", "Dungeness crab", "spoonbill", "limpkin", "albatross", "Chihuahua",
    "Shih-Tzu", "Rhodesian ridgeback", "Weimaraner", "soft-coated wheaten terrier", "Old English sheepdog", "Pembroke",
    "timber wolf", "meerkat", "ladybug", "lacewing", "sea urchin", "guinea pig", "warthog", "ibex", "gorilla", "abacus",
    "academic gown", "analog clock", "backpack", "barbershop", "bassinet", "bathtub", "binoculars", "bobsled", "bookshop",
    "breastplate", "bucket", "cassette player", "chainlink fence", "cliff dwelling", "corkscrew", "digital watch",
    "dishwasher", "electric guitar", "envelope", "fire engine", "forklift", "frying pan", "go-kart", "golfcart", "grille",
    "hair spray", "half track", "hourglass", "iPod", "jack-o'-lantern", "jigsaw puzzle", "knot", "lab coat", "lampshade",
    "letter opener", "loudspeaker", "mailbox", "maze", "minivan", "mosquito net", "mountain bike", "notebook", "obelisk",
    "oxygen mask", "paddlewheel", "palace", "parachute", "pencil sharpener", "pickelhaube", "picket fence", "plunger",
    "Polaroid camera", "prayer rug", "quill", "radio telescope", "restaurant", "rubber eraser", "sewing machine",
    "shopping cart", "ski mask", "solar dish", "space bar", "spider web", "stopwatch", "submarine", "suspension bridge",
    "teapot", "theater curtain", "toaster", "trench coat", "typewriter keyboard", "umbrella", "velvet", "washbasin",
    "wooden spoon", "worm fence", "yurt", "comic book", "crossword puzzle", "street sign", "guacamole", "ice lolly",
    "bagel", "mashed potato", "spaghetti squash", "Granny Smith", "pizza", "burrito", "red wine", "espresso", "volcano",
    "bubble", "alp", "scuba diver", "rapeseed", "yellow lady's slipper", "hen-of-the-woods", "ear", "toilet tissue",
]

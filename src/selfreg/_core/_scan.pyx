"""Scan of canonical JSONL lines into columns, without a Python object per value.

    line = {"task": text, "episode": text, "outcome": number in 0..1, "steps": [{"state": text, ...}, ...], ...}

Only the plain form of a line is read: expected members, each at most once, in any order; texts without surrogates;
outcomes and labels from 0 to 1 without an exponent. The scan stops before any other line, which the caller passes to
the decoder. Lines that are read give the same result as the decoder.

Outputs need no bounds checks: a line has at most as many steps as braces, and no text is longer than the line.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

ctypedef const uint8_t* Bytes

cdef enum:
    NOTHING, KEY, STATE               # which text of a step to read; KEY is its state if it has no key

cdef enum:
    TASK, EPISODE, OUTCOME, FIELDS    # texts of an episode
    HELP = 1                          # texts of a step: state or key, and its intervention

cdef enum:
    ONES = 0x0101010101010101

cdef struct Text:
    Bytes begin                       # NULL if the text is null or missing
    Bytes end
    bint escaped

cdef struct Columns:
    int64_t episodes
    int64_t steps
    int64_t* lengths
    int64_t* episode_ends[4]
    uint8_t* episode_texts[4]
    int64_t* step_ends[2]
    uint8_t* step_texts[2]
    uint8_t* helped


def scan(
    const uint8_t[::1] block,             # IN  whole lines, in UTF-8
    Py_ssize_t begin,                     # IN  begin of the first line to read
    int wanted,                           # IN  0: no text of a step, 1: key, or state if there is no key, 2: state
    int64_t[::1] reached,                 # IN OUT (3,) lines, episodes and steps so far
    int64_t[::1] numbers,                 # OUT (episodes,) line of each, from 1
    int64_t[::1] lengths,                 # OUT (episodes,) steps of each
    int64_t[:, ::1] episode_ends,         # IN OUT (4, episodes + 1) ends of task, episode, outcome, fields
    uint8_t[:, ::1] episode_texts,        # OUT (4, len(block)) fields as JSON, empty if there are none
    int64_t[:, ::1] step_ends,            # IN OUT (2, steps + 1) ends of text and intervention; [:, 0] is 0
    uint8_t[:, ::1] step_texts,           # OUT (2, len(block))
    uint8_t[::1] helped,                  # OUT (steps,) whether the step has an intervention
):
    """Begin of the first line that is not plain; the length of the block if all are plain."""
    cdef Columns out
    cdef Py_ssize_t size = block.shape[0]
    cdef int64_t line = reached[0]
    cdef Bytes at
    cdef Bytes end
    cdef Bytes stop
    cdef int i
    if begin >= size:
        return size
    out.episodes, out.steps = reached[1], reached[2]
    out.lengths = &lengths[0]
    out.helped = &helped[0] if helped.shape[0] else NULL  # a block without a brace has no step
    for i in range(4):
        out.episode_ends[i], out.episode_texts[i] = &episode_ends[i, 0], &episode_texts[i, 0]
    for i in range(2):
        out.step_ends[i], out.step_texts[i] = &step_ends[i, 0], &step_texts[i, 0]
    with nogil:
        at, end = &block[0] + begin, &block[0] + size
        while at < end:
            stop = <Bytes> memchr(at, 10, end - at)
            if stop == NULL:
                stop = end
            if skip_blanks(at, stop) < stop:
                if not read_line(at, stop, wanted, &out):
                    break
                numbers[out.episodes - 1] = line + 1
            line += 1
            at = stop + 1
    reached[0], reached[1], reached[2] = line, out.episodes, out.steps
    return min(at - &block[0], size)


cdef bint read_line(Bytes at, Bytes end, int wanted, Columns* out) noexcept nogil:
    """Whether the line is plain; if so, its episode is added."""
    cdef Text name, task, episode
    cdef Bytes outcome = NULL
    cdef Bytes outcome_end = NULL
    cdef Bytes fields = NULL
    cdef Bytes fields_end = NULL
    cdef int64_t steps = -1
    cdef bint truncated = False
    task.begin = episode.begin = NULL
    at = skip_blanks(at, end)
    if at[0] != c"{":
        return False
    while True:
        at = parse_name(at, end, &name)
        if at == NULL:
            return False
        if is_named(&name, "task", 4) and task.begin == NULL:
            at = parse_text(at, end, &task)
        elif is_named(&name, "episode", 7) and episode.begin == NULL:
            at = parse_text(at, end, &episode)
        elif is_named(&name, "outcome", 7) and outcome == NULL:
            outcome, at = at, parse_rate(at, end)
            outcome_end = at
        elif is_named(&name, "truncated", 9) and not truncated:
            truncated, at = True, parse_boolean(at, end)
        elif is_named(&name, "fields", 6) and fields == NULL:
            fields, at = at, parse_flat_object(at, end)
            fields_end = at
        elif is_named(&name, "steps", 5) and steps < 0:
            at = read_steps(at, end, wanted, out, &steps)
        else:
            return False
        if at == NULL:
            return False
        at = skip_blanks(at, end)
        if at == end or at[0] != c",":
            break
    if at == end or at[0] != c"}" or skip_blanks(at + 1, end) != end:
        return False
    if task.begin == NULL or episode.begin == NULL or outcome == NULL or steps < 1:
        return False
    write_text(&task, out.episode_ends[TASK], out.episode_texts[TASK], out.episodes)
    write_text(&episode, out.episode_ends[EPISODE], out.episode_texts[EPISODE], out.episodes)
    write_raw(outcome, outcome_end, out.episode_ends[OUTCOME], out.episode_texts[OUTCOME], out.episodes)
    write_raw(fields, fields_end, out.episode_ends[FIELDS], out.episode_texts[FIELDS], out.episodes)
    out.lengths[out.episodes] = steps
    out.steps += steps
    out.episodes += 1
    return True


cdef Bytes read_steps(Bytes at, Bytes end, int wanted, Columns* out, int64_t* steps) noexcept nogil:
    """Position after the list of steps, which are written from `out.steps` on; NULL if one is not plain."""
    steps[0] = 0
    if at == end or at[0] != c"[":
        return NULL
    while True:
        at = read_step(skip_blanks(at + 1, end), end, wanted, out, out.steps + steps[0])
        if at == NULL:
            return NULL
        steps[0] += 1
        at = skip_blanks(at, end)
        if at == end or at[0] != c",":
            break
    return at + 1 if at < end and at[0] == c"]" else NULL


cdef Bytes read_step(Bytes at, Bytes end, int wanted, Columns* out, int64_t row) noexcept nogil:
    """Position after the step; NULL if it is not plain."""
    cdef Text name, state, action, key, intervention
    cdef int seen = 0, bit
    state.begin = key.begin = intervention.begin = NULL
    if at == end or at[0] != c"{":
        return NULL
    while True:
        at = parse_name(at, end, &name)
        if at == NULL:
            return NULL
        if is_named(&name, "state", 5):
            bit, at = 1, parse_text(at, end, &state)
        elif is_named(&name, "action", 6):
            bit, at = 2, parse_text_or_null(at, end, &action)
        elif is_named(&name, "key", 3):
            bit, at = 4, parse_text_or_null(at, end, &key)
        elif is_named(&name, "intervention", 12):
            bit, at = 8, parse_text_or_null(at, end, &intervention)
        elif is_named(&name, "cost", 4):
            bit, at = 16, parse_null(at, end) if parse_null(at, end) else parse_natural(at, end)
        elif is_named(&name, "label", 5):
            bit, at = 32, parse_null(at, end) if parse_null(at, end) else parse_rate(at, end)
        else:
            return NULL
        if at == NULL or seen & bit:
            return NULL
        seen |= bit
        at = skip_blanks(at, end)
        if at == end or at[0] != c",":
            break
    if at == end or at[0] != c"}" or state.begin == NULL:
        return NULL
    if wanted == NOTHING:
        state.begin = NULL
    elif wanted == KEY and key.begin != NULL:
        state = key
    write_text(&state, out.step_ends[0], out.step_texts[0], row)
    write_text(&intervention, out.step_ends[HELP], out.step_texts[HELP], row)
    out.helped[row] = intervention.begin != NULL
    return at + 1


# ---- JSON: each function returns the position after the value, or NULL ----------------------------------------------


cdef inline Bytes skip_blanks(Bytes at, Bytes end) noexcept nogil:
    while at < end and (at[0] == 32 or at[0] == 9 or at[0] == 13):
        at += 1
    return at


cdef inline bint is_named(const Text* name, const char* text, Py_ssize_t size) noexcept nogil:
    return name.end - name.begin == size and memcmp(name.begin, text, size) == 0


cdef inline Bytes parse_name(Bytes at, Bytes end, Text* name) noexcept nogil:
    """From the brace or comma before a name to the value."""
    at = parse_text(skip_blanks(at + 1, end), end, name)
    if at == NULL:
        return NULL
    at = skip_blanks(at, end)
    return skip_blanks(at + 1, end) if at < end and at[0] == c":" else NULL


cdef inline Bytes parse_text_or_null(Bytes at, Bytes end, Text* text) noexcept nogil:
    if parse_null(at, end):
        text.begin = NULL
        return at + 4
    return parse_text(at, end, text)


cdef Bytes parse_text(Bytes at, Bytes end, Text* text) noexcept nogil:
    cdef uint64_t word, quote, slash
    if at == end or at[0] != c'"':
        return NULL
    at += 1
    text.begin, text.escaped = at, False
    while True:
        while end - at >= 8:  # eight bytes at a time, as long as none is a quote, a backslash or a control character
            memcpy(&word, at, 8)
            quote, slash = word ^ (<uint64_t> 0x22 * ONES), word ^ (<uint64_t> 0x5C * ONES)
            quote = (quote - ONES) & ~quote
            slash = (slash - ONES) & ~slash
            if (quote | slash | ((word - <uint64_t> 0x20 * ONES) & ~word)) & (<uint64_t> 0x80 * ONES):
                break
            at += 8
        while at < end and at[0] != c'"' and at[0] != c"\\" and at[0] >= 32:
            at += 1
        if at == end or at[0] < 32:
            return NULL
        if at[0] == c'"':
            text.end = at
            return at + 1
        text.escaped = True
        at = parse_escape(at, end)
        if at == NULL:
            return NULL


cdef Bytes parse_escape(Bytes at, Bytes end) noexcept nogil:
    cdef int code
    if end - at < 2:
        return NULL
    if at[1] != c"u":
        return at + 2 if memchr(b'"\\/bfnrt', at[1], 8) != NULL else NULL
    code = parse_hexadecimal(at + 2, end)
    return at + 6 if code >= 0 and not 0xD800 <= code < 0xE000 else NULL


cdef int parse_hexadecimal(Bytes at, Bytes end) noexcept nogil:
    """Value of four hexadecimal digits, -1 if they are not."""
    cdef int code = 0, i
    if end - at < 4:
        return -1
    for i in range(4):
        if c"0" <= at[i] <= c"9":
            code = 16 * code + at[i] - c"0"
        elif c"a" <= (at[i] | 32) <= c"f":
            code = 16 * code + (at[i] | 32) - c"a" + 10
        else:
            return -1
    return code


cdef inline Bytes parse_null(Bytes at, Bytes end) noexcept nogil:
    return at + 4 if end - at >= 4 and memcmp(at, "null", 4) == 0 else NULL


cdef inline Bytes parse_boolean(Bytes at, Bytes end) noexcept nogil:
    if end - at >= 4 and memcmp(at, "true", 4) == 0:
        return at + 4
    return at + 5 if end - at >= 5 and memcmp(at, "false", 5) == 0 else NULL


cdef inline Bytes skip_digits(Bytes at, Bytes end, bint zeros) noexcept nogil:
    while at < end and c"0" <= at[0] <= (c"0" if zeros else c"9"):
        at += 1
    return at


cdef Bytes parse_natural(Bytes at, Bytes end) noexcept nogil:
    """An integer from 0 to 10^18 - 1; the caller checks what follows."""
    cdef Bytes after = skip_digits(at, end, False)
    if after == at or after - at > 18 or (at[0] == c"0" and after - at > 1):
        return NULL
    return after


cdef Bytes parse_rate(Bytes at, Bytes end) noexcept nogil:
    """A number from 0 to 1 without an exponent: 0, 0.12, 1, 1.0."""
    cdef Bytes point
    if at == end or (at[0] != c"0" and at[0] != c"1"):
        return NULL
    point = at + 1
    if point == end or point[0] != c".":
        return point
    at = skip_digits(point + 1, end, at[0] == c"1")
    return at if at > point + 1 else NULL


cdef Bytes parse_flat_object(Bytes at, Bytes end) noexcept nogil:
    """An object of texts, numbers (of any form), true, false and null."""
    cdef Text text
    cdef Bytes after
    if at == end or at[0] != c"{":
        return NULL
    after = skip_blanks(at + 1, end)
    if after < end and after[0] == c"}":
        return after + 1
    while True:
        at = parse_name(at, end, &text)
        if at == NULL:
            return NULL
        after = at
        while after < end and (c"0" <= after[0] <= c"9" or memchr(b"+-.eE", after[0], 5) != NULL):
            after += 1
        if after == at:
            after = parse_null(at, end)
        if after == NULL:
            after = parse_boolean(at, end)
        if after == NULL:
            after = parse_text(at, end, &text)
        if after == NULL:
            return NULL
        at = skip_blanks(after, end)
        if at == end or at[0] != c",":
            break
    return at + 1 if at < end and at[0] == c"}" else NULL


# ---- output ---------------------------------------------------------------------------------------------------------


cdef inline void write_raw(Bytes begin, Bytes end, int64_t* ends, uint8_t* texts, int64_t row) noexcept nogil:
    if begin != NULL:
        memcpy(texts + ends[row], begin, end - begin)
        ends[row + 1] = ends[row] + (end - begin)
    else:
        ends[row + 1] = ends[row]


cdef void write_text(const Text* text, int64_t* ends, uint8_t* texts, int64_t row) noexcept nogil:
    """A text, its escapes resolved."""
    cdef Bytes at = text.begin
    cdef uint8_t* out = texts + ends[row]
    if at == NULL or not text.escaped:
        write_raw(at, text.end, ends, texts, row)
        return
    while at < text.end:
        if at[0] != c"\\":
            out[0] = at[0]
            at, out = at + 1, out + 1
        elif at[1] != c"u":
            out[0] = unescape(at[1])
            at, out = at + 2, out + 1
        else:
            out += write_utf8(parse_hexadecimal(at + 2, text.end), out)
            at += 6
    ends[row + 1] = out - texts


cdef inline uint8_t unescape(uint8_t escaped) noexcept nogil:
    if escaped == c"n":
        return 10
    if escaped == c"t":
        return 9
    if escaped == c"r":
        return 13
    if escaped == c"b":
        return 8
    return 12 if escaped == c"f" else escaped


cdef inline int write_utf8(int code, uint8_t* out) noexcept nogil:
    """Bytes written."""
    if code < 0x80:
        out[0] = code
        return 1
    if code < 0x800:
        out[0], out[1] = 0xC0 | code >> 6, 0x80 | code & 0x3F
        return 2
    out[0], out[1], out[2] = 0xE0 | code >> 12, 0x80 | code >> 6 & 0x3F, 0x80 | code & 0x3F
    return 3

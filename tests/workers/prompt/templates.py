"""Small chat templates with the habits of large ones, written for these tests."""

HERMES = """\
{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}

{% endif %}Tools:
{%- for tool in tools %}{{ tool | tojson }};
{%- endfor %}
Answer in <tool_call>{"name": ..., "arguments": ...}</tool_call>.<|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}<|im_start|>user
<tool_response>{{ message.content }}</tool_response><|im_end|>
{% elif not (loop.first and message.role == 'system') %}<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{% endif %}"""

# No system role, arguments as text, ids of nine characters.
STERN = """\
{{ bos_token }}{% for message in messages %}
{%- if message.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- if message.tool_calls %}[TOOL_CALLS][
{%- for call in message.tool_calls %}
{%- if call.id | length != 9 %}{{ raise_exception('ids must have length 9') }}{% endif %}
{"name": "{{ call.function.name }}", "arguments": {{ '' + call.function.arguments }}}
{%- endfor %}]
{%- elif message.role == 'tool' %}[RESULT]{{ message.tool_call_id }} {{ message.content }}
{%- else %}[{{ message.role }}]{{ message.content }}{% endif %}
{%- endfor %}
{%- if tools %}[TOOLS]{{ tools | tojson }}{% endif %}"""

PARTS = """\
{% for message in messages %}{{ message.role }}:
{%- for part in message.content %}{% if part.type == 'text' %} {{ part.text }}{% endif %}
{%- endfor %};
{%- endfor %}"""

THINKER = """\
{% for message in messages %}<|{{ message.role }}|>
{%- if '</think>' in message.content %}{{ message.content.split('</think>')[-1] }}
{%- else %}{{ message.content }}{% endif %}
{% endfor %}{% if add_generation_prompt %}<|assistant|><think>
{% endif %}"""

EFFORT = THINKER.replace("<|assistant|><think>", "effort={{ reasoning_effort }} <|assistant|>")

DATED = "{{ strftime_now('%Y-%m-%d') }} {{ messages[0].content }}"

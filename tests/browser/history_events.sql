INSERT INTO events (campaign_id, message_key, event_time, event_id, event_type, occurred_at, received_at,
    provider, source, recipient, recipient_domain, mailbox_provider, bounce_class, bounce_reason, smtp_code,
    enhanced_status, diagnostic, actor, actor_reason, click_url, click_url_group, unsubscribe_link, first_of_kind, first_human)
SELECT
    ['spring-sale-0', 'welcome-1', 'newsletter-2'][number % 3 + 1],
    reinterpretAsUUID(sipHash128(intDiv(number, 3))),
    now64(3) - toIntervalMillisecond(cityHash64(number, 1) % (86400000 * 3)) AS at,
    reinterpretAsUUID(sipHash128(number, 'event')),
    ['delivered', 'delivered', 'opened', 'opened', 'clicked', 'bounced'][intDiv(number, 3) % 6 + 1] AS type,
    at, at, 'sendgrid', 'news',
    concat('person', toString(number % 900), '@', ['gmail.com', 'outlook.com', 'yahoo.com'][number % 3 + 1]),
    ['gmail.com', 'outlook.com', 'yahoo.com'][number % 3 + 1],
    ['gmail', 'microsoft', 'yahoo'][number % 3 + 1],
    if(type = 'bounced', ['hard', 'soft', 'block', 'hard'][intDiv(number, 18) % 4 + 1], 'none') AS class,
    if(type = 'bounced', ['no_mailbox', 'mailbox_full', 'reputation', 'dns'][intDiv(number, 18) % 4 + 1], 'none'),
    if(type = 'bounced', [550, 452, 554, 550][intDiv(number, 18) % 4 + 1], 0),
    if(type = 'bounced', ['5.1.1', '4.2.2', '5.7.1', '5.1.2'][intDiv(number, 18) % 4 + 1], ''),
    if(type = 'bounced', concat('550 5.1.1 <person', toString(number % 900), '@gmail.com>: recipient address rejected: no such user'), ''),
    if(type IN ('opened', 'clicked'), multiIf(type = 'opened', ['human', 'unknown', 'human', 'machine'], ['human', 'human', 'human', 'machine'])[intDiv(number, 18) % 4 + 1], '') AS who,
    multiIf(who = 'unknown', 'apple_mpp', type = 'opened' AND who = 'machine', 'prefetch_ua', who = 'machine', 'links_at_once', ''),
    if(type = 'clicked', concat('https://shop.example.com/', ['sale', 'new', 'unsubscribe', 'blog/2026/how-to-choose'][intDiv(number, 18) % 4 + 1]), '') AS url,
    url,
    type = 'clicked' AND intDiv(number, 18) % 4 = 2, 1, who = 'human'
FROM numbers(9000)

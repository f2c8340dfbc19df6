/*---
description: >
  What billing, the CRM and the invoices say an organisation pays a month, side by side, at the close of as_of, in the
  reporting currency at the rates of as_of. One row for each organisation of which any of them says something other
  than 0. Empty means that it says nothing, never 0.
  Billing: MRR of its subscriptions of billing systems; 0 where billing has or had some and none runs;
  empty where that of a running one is unknown.
  CRM: MRR that its record states; 0 where that has ended. Billing is believed where both say something. CRM contracts
  with an amount are invoiced outside of billing, so they stand apart and nothing is compared with them. Deals: amounts of the open and won renewal deals of its contracts
  in scope, as MRR, against the MRR of exactly these contracts. Invoices: recurring lines of invoices whose period covers as_of, a month
  of them, net of discounts, without tax and prorations (intermediate.invoiced_lines). A change in the middle of a
  period shows in invoices with the next one: has_proration tells of it.
  Missing: billing, when the CRM record or an invoice says that it pays, billing knows no subscription of it and there
  is no CRM contract with an amount; crm and
  invoices, when billing has MRR of it and they have nothing; none of them is said to be missing where no organisation
  has any of it, as when there is no such source.
grain: [as_of, known_at, org_id]
owners: [data]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "only what was recorded before the close of this day counts", not_null: true}
  org_id: {type: VARCHAR, meaning: "organisation after merges", not_null: true}
  name: {type: VARCHAR, meaning: "display name"}
  state: {type: VARCHAR, meaning: "commercial state; empty = it is known from invoices alone"}
  tier: {type: VARCHAR, meaning: "tier of its account"}
  owner_name: {type: VARCHAR, meaning: "who owns the relationship"}
  in_scope: {type: BOOLEAN, meaning: "one of its contracts is in scope of the renewal pipeline", not_null: true}
  billing_mrr: {type: "DECIMAL(18,2)", meaning: "MRR by billing"}
  crm_mrr: {type: "DECIMAL(18,2)", meaning: "MRR by the CRM's record"}
  contract_mrr: {type: "DECIMAL(18,2)", meaning: "MRR of its CRM contracts, which billing does not know"}
  invoiced_mrr: {type: "DECIMAL(18,2)", meaning: "a month of what was invoiced for as_of"}
  deal_mrr: {type: "DECIMAL(18,2)", meaning: "MRR by its renewal deals"}
  deal_contracts_mrr: {type: "DECIMAL(18,2)", meaning: "MRR of the contracts of these deals"}
  crm_difference: {type: "DECIMAL(18,2)", meaning: "crm_mrr - billing_mrr"}
  invoice_difference: {type: "DECIMAL(18,2)", meaning: "invoiced_mrr - billing_mrr"}
  deal_difference: {type: "DECIMAL(18,2)", meaning: "deal_mrr - deal_contracts_mrr"}
  missing: {type: "VARCHAR[]", meaning: "which of them should say something and does not, in this order", not_null: true, accepted: [billing, crm, invoices]}
  has_proration: {type: BOOLEAN, meaning: "an invoice has a proration that covers as_of", not_null: true}
  hubspot_url: {type: VARCHAR, meaning: "address of the record"}
  why: {type: VARCHAR, meaning: "the row in one sentence", not_null: true}
  settings_hash: {type: VARCHAR, meaning: "settings the row was built with", not_null: true}
checks:
  - name: crm_agrees_with_billing
    severity: warn
    description: >
      Over the organisations in scope of the renewal pipeline whose MRR both say, the CRM and billing differ by at most
      tie_out.tolerance (2 %) of billing in all. Billing is believed.
    sql: >
      SELECT as_of, known_at, org_id, crm_mrr, billing_mrr
      FROM marts.tie_out
      WHERE in_scope AND crm_mrr <> billing_mrr
        AND (
          SELECT abs(sum(crm_mrr) - sum(billing_mrr)) > CAST($tie_out_tolerance AS DECIMAL(9,6)) * abs(sum(billing_mrr))
          FROM marts.tie_out
          WHERE as_of = $as_of AND known_at = $known_at AND in_scope
        )
  - name: deals_agree_with_billing
    severity: warn
    description: >
      The amounts of the renewal deals in scope and the MRR of their contracts differ by at most tie_out.tolerance (2 %)
      of billing in all.
    sql: >
      SELECT as_of, known_at, org_id, deal_mrr, deal_contracts_mrr
      FROM marts.tie_out
      WHERE in_scope AND deal_mrr <> deal_contracts_mrr
        AND (
          SELECT abs(sum(deal_mrr) - sum(deal_contracts_mrr)) > CAST($tie_out_tolerance AS DECIMAL(9,6)) * abs(sum(deal_contracts_mrr))
          FROM marts.tie_out
          WHERE as_of = $as_of AND known_at = $known_at AND in_scope
        )
  - name: invoices_agree_with_billing
    severity: warn
    description: >
      Over the organisations that have both, what was invoiced and what billing says differ by at most tie_out.tolerance
      (2 %) of billing in all.
    sql: >
      SELECT as_of, known_at, org_id, invoiced_mrr, billing_mrr
      FROM marts.tie_out
      WHERE invoiced_mrr <> billing_mrr
        AND (
          SELECT abs(sum(invoiced_mrr) - sum(billing_mrr)) > CAST($tie_out_tolerance AS DECIMAL(9,6)) * abs(sum(billing_mrr))
          FROM marts.tie_out
          WHERE as_of = $as_of AND known_at = $known_at
        )
---*/
WITH today AS (
    SELECT org_id, source_kind, is_running, mrr
    FROM intermediate.subscription_intervals
    WHERE from_on <= $as_of AND (to_on IS NULL OR to_on > $as_of)
),
billed AS (
    SELECT DISTINCT org_id
    FROM intermediate.subscription_intervals
    WHERE source_kind = 'billing' AND valid_from < $close_as_of
),
billing AS (
    SELECT
        b.org_id,
        CASE WHEN count(t.org_id) FILTER (WHERE t.mrr IS NULL) = 0 THEN coalesce(sum(t.mrr), 0) END AS mrr
    FROM billed AS b
    LEFT JOIN today AS t ON t.org_id = b.org_id AND t.source_kind = 'billing' AND t.is_running
    GROUP BY b.org_id
),
contracts AS (
    SELECT
        org_id,
        CASE WHEN count(*) FILTER (WHERE mrr IS NULL) = 0 THEN sum(mrr) END AS mrr
    FROM today
    WHERE source_kind = 'crm_contract' AND is_running
    GROUP BY org_id
),
records AS (
    SELECT org_id, amount, billing_interval, currency, status, least(cancel_at, ended_at) AS end_at
    FROM staging.crm_subscriptions
    WHERE recorded_at < $close_known_at AND effective_at < $close_as_of
    QUALIFY
        row_number() OVER (PARTITION BY org_id ORDER BY effective_at DESC, recorded_at DESC) = 1
),
stated_native AS (
    SELECT
        org_id,
        currency,
        status NOT IN ('active', 'past_due') OR coalesce(end_at < $close_as_of, false) AS is_over,
        part_in_cents(
            amount,
            CASE
                WHEN billing_interval = 'week' THEN 52
                WHEN billing_interval IN ('month', 'quarter', 'year', 'two_years') THEN 1
            END,
            CASE billing_interval
                WHEN 'month' THEN 1 WHEN 'quarter' THEN 3 WHEN 'year' THEN 12 WHEN 'two_years' THEN 24 ELSE 12
            END
        ) AS mrr_native
    FROM records
),
stated AS (
    SELECT
        coalesce(i.canonical_org_id, r.org_id) AS org_id,
        CASE
            WHEN r.is_over THEN 0
            WHEN r.currency = $reporting_currency THEN r.mrr_native
            ELSE converted(r.mrr_native, f.rate)
        END AS mrr
    FROM stated_native AS r
    LEFT JOIN intermediate.organisation_identity AS i ON i.org_id = r.org_id
    LEFT JOIN intermediate.fx_intervals AS f
        ON f.currency = r.currency AND f.from_on <= $as_of AND (f.to_on IS NULL OR f.to_on > $as_of)
),
stated_sums AS (
    SELECT org_id, CASE WHEN count(*) FILTER (WHERE mrr IS NULL) = 0 THEN sum(mrr) END AS mrr
    FROM stated
    GROUP BY org_id
),
invoiced AS (
    SELECT
        org_id,
        count(*) FILTER (WHERE is_recurring) AS recurring_lines,
        CASE
            WHEN count(*) FILTER (WHERE is_recurring AND mrr IS NULL) = 0 THEN sum(mrr) FILTER (WHERE is_recurring)
        END AS mrr,
        bool_or(is_proration) AS has_proration
    FROM intermediate.invoiced_lines
    GROUP BY org_id
),
renewals AS (
    SELECT
        r.org_id,
        r.in_scope,
        r.mrr_at_stake,
        CASE
            WHEN r.in_scope AND r.status IN ('open', 'renewed') AND r.deal_amount > 0 AND r.mrr_at_stake IS NOT NULL
                THEN converted_part(
                    r.deal_amount,
                    CASE WHEN r.deal_currency = $reporting_currency THEN 1 ELSE f.rate END,
                    CASE WHEN $renewal_deal_amount_basis = 'arr' THEN 12 ELSE 1 END
                )
        END AS deal_mrr
    FROM marts.renewal_pipeline AS r
    LEFT JOIN intermediate.fx_intervals AS f
        ON f.currency = r.deal_currency AND f.from_on <= $as_of AND (f.to_on IS NULL OR f.to_on > $as_of)
    WHERE r.as_of = $as_of AND r.known_at = $known_at AND r.org_id IS NOT NULL
),
deals AS (
    SELECT
        org_id,
        bool_or(in_scope) AS in_scope,
        sum(deal_mrr) AS mrr,
        sum(mrr_at_stake) FILTER (WHERE deal_mrr IS NOT NULL) AS contracts_mrr
    FROM renewals
    GROUP BY org_id
),
named AS (
    SELECT org_id FROM billing
    UNION
    SELECT org_id FROM contracts
    UNION
    SELECT org_id FROM stated_sums
    UNION
    SELECT org_id FROM invoiced WHERE recurring_lines > 0
),
sources AS (
    SELECT
        (SELECT count(*) FROM billing) > 0 AS has_billing,
        (SELECT count(*) FROM stated_sums) > 0 AS has_crm,
        (SELECT count(*) FROM invoiced WHERE recurring_lines > 0) > 0 AS has_invoices
),
said AS (
    SELECT
        n.org_id,
        b.org_id IS NOT NULL AS is_billed,
        s.org_id IS NOT NULL AS is_in_crm,
        c.org_id IS NOT NULL AS has_contract,
        coalesce(i.recurring_lines, 0) > 0 AS is_invoiced,
        b.mrr AS billing_mrr,
        s.mrr AS crm_mrr,
        c.mrr AS contract_mrr,
        i.mrr AS invoiced_mrr,
        coalesce(i.has_proration, false) AS has_proration
    FROM named AS n
    LEFT JOIN billing AS b ON b.org_id = n.org_id
    LEFT JOIN contracts AS c ON c.org_id = n.org_id
    LEFT JOIN stated_sums AS s ON s.org_id = n.org_id
    LEFT JOIN invoiced AS i ON i.org_id = n.org_id
)
SELECT
    CAST($as_of AS DATE) AS as_of,
    CAST($known_at AS DATE) AS known_at,
    x.org_id,
    o.name,
    o.state,
    o.tier,
    o.owner_name,
    coalesce(d.in_scope, false) AS in_scope,
    CAST(x.billing_mrr AS DECIMAL(18, 2)) AS billing_mrr,
    CAST(x.crm_mrr AS DECIMAL(18, 2)) AS crm_mrr,
    CAST(x.contract_mrr AS DECIMAL(18, 2)) AS contract_mrr,
    CAST(x.invoiced_mrr AS DECIMAL(18, 2)) AS invoiced_mrr,
    CAST(d.mrr AS DECIMAL(18, 2)) AS deal_mrr,
    CAST(d.contracts_mrr AS DECIMAL(18, 2)) AS deal_contracts_mrr,
    CAST(x.crm_mrr - x.billing_mrr AS DECIMAL(18, 2)) AS crm_difference,
    CAST(x.invoiced_mrr - x.billing_mrr AS DECIMAL(18, 2)) AS invoice_difference,
    CAST(d.mrr - d.contracts_mrr AS DECIMAL(18, 2)) AS deal_difference,
    codes([
        CASE WHEN t.has_billing AND NOT x.is_billed AND (x.crm_mrr > 0 OR x.is_invoiced) AND NOT x.has_contract THEN 'billing' END,
        CASE WHEN t.has_crm AND NOT x.is_in_crm AND x.billing_mrr > 0 THEN 'crm' END,
        CASE WHEN t.has_invoices AND NOT x.is_invoiced AND x.billing_mrr > 0 THEN 'invoices' END
    ]) AS missing,
    x.has_proration,
    o.hubspot_url,
    'Billing says ' || coalesce(CAST(CAST(x.billing_mrr AS DECIMAL(18, 2)) AS VARCHAR), 'nothing')
    || ', the CRM ' || coalesce(CAST(CAST(x.crm_mrr AS DECIMAL(18, 2)) AS VARCHAR), 'nothing')
    || ', invoices ' || coalesce(CAST(CAST(x.invoiced_mrr AS DECIMAL(18, 2)) AS VARCHAR), 'nothing')
    || coalesce(
        ', renewal deals ' || CAST(CAST(d.mrr AS DECIMAL(18, 2)) AS VARCHAR)
        || ' for contracts of ' || CAST(CAST(d.contracts_mrr AS DECIMAL(18, 2)) AS VARCHAR),
        ''
    )
    || coalesce(', contracts outside of billing ' || CAST(CAST(x.contract_mrr AS DECIMAL(18, 2)) AS VARCHAR), '')
    || CASE WHEN x.has_proration THEN '; a proration covers the day' ELSE '' END
    || '.' AS why,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM said AS x
CROSS JOIN sources AS t
LEFT JOIN deals AS d ON d.org_id = x.org_id
LEFT JOIN marts.organisation_daily AS o ON o.org_id = x.org_id AND o.as_of = $as_of AND o.known_at = $known_at
WHERE
    coalesce(x.billing_mrr, CASE WHEN x.is_billed THEN 1 END, 0) <> 0
    OR coalesce(x.crm_mrr, CASE WHEN x.is_in_crm THEN 1 END, 0) <> 0
    OR x.has_contract
    OR x.is_invoiced
